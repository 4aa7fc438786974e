;; The load failed: the plugin returned 7.
(module
  (memory (export "memory") 1)
  (func (export "hotcell_plugin_v1") (result i32) (i32.const 7))
  (func (export "hotcell_alloc") (param i32) (result i32) (i32.const 64))
  (func (export "hotcell_export_ok") (param i32 i32) (result i32) (i32.const 0)))
