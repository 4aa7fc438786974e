;; The load failed: over the limit of tables, or of memory.
(module
  (memory (export "memory") 1)
  (table 100000000 funcref)
  (func (export "hotcell_alloc") (param i32) (result i32) (i32.const 64))
  (func (export "hotcell_plugin_v1") (result i32) (i32.const 0))
  (func (export "hotcell_export_ok") (param i32 i32) (result i32) (i32.const 0)))
