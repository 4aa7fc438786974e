;; The load failed, and names the import with its control characters escaped.
(module $"\1b]0;owned\07"
  (import "\1b[2J\1b[H" "\r\n[INFO] forged" (func $"\1b[31m"))
  (memory (export "memory") 1)
  (func (export "hotcell_alloc") (param i32) (result i32) (i32.const 64))
  (func (export "hotcell_plugin_v1") (result i32) (i32.const 0))
  (func (export "hotcell_export_ok") (param i32 i32) (result i32) (i32.const 0)))
