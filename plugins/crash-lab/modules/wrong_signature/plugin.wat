;; The load failed, and names the export and both types.
(module
  (memory (export "memory") 1)
  (func (export "hotcell_alloc") (param i32) (result i32) (i32.const 64))
  (func (export "hotcell_plugin_v1") (result i32) (i32.const 0))
  (func (export "hotcell_export_ok") (param i64) (result f32) (f32.const 0)))
