;; Replies with its input. The input lies where the sample modules have it, but may be as large as the profile allows.
(module
  (import "hotcell" "reply" (func $reply (param i32 i32)))

  ;; Page 0 stays empty; 16 MiB of input follow.
  (memory (export "memory") 257)

  (func (export "hotcell_plugin_v1") (result i32) (i32.const 0))

  ;; Inputs over 16 MiB are refused with a null pointer.
  (func (export "hotcell_alloc") (param $length i32) (result i32)
    (select (i32.const 0x10000) (i32.const 0) (i32.le_u (local.get $length) (i32.const 0x1000000))))

  (func (export "hotcell_export_ok") (param i32 i32) (result i32)
    (call $reply (local.get 0) (local.get 1))
    (i32.const 0)))
