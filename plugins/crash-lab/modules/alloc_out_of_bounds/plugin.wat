;; Trap or plugin error on every call with input, never a crash: the input has nowhere to go.
(module
  (memory (export "memory") 1)
  (func (export "hotcell_alloc") (param i32) (result i32) (i32.const 0xfffffff0))
  (func (export "hotcell_plugin_v1") (result i32) (i32.const 0))
  (func (export "hotcell_export_ok") (param i32 i32) (result i32) (i32.const 0)))
