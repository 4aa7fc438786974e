;; Replies with its input, or asks the host as often as the input says.
(module
  (import "hotcell" "reply" (func $reply (param i32 i32)))
  (import "hotcell" "host_call" (func $host_call (param i32 i32 i32 i32) (result i64)))
  (import "hotcell" "host_take" (func $host_take (param i32 i32) (result i32)))

  (memory (export "memory") 2)
  (data (i32.const 0x100) "echo")
  (data (i32.const 0x200) "what a plugin asks its host sixty-four bytes at a time, as here.")

  (func (export "hotcell_plugin_v1") (result i32) (i32.const 0))

  ;; One page of input; more is refused with a null pointer.
  (func (export "hotcell_alloc") (param $length i32) (result i32)
    (select (i32.const 0x10000) (i32.const 0) (i32.le_u (local.get $length) (i32.const 0x10000))))

  (func (export "hotcell_export_ok") (param i32 i32) (result i32)
    (call $reply (local.get 0) (local.get 1))
    (i32.const 0))

  ;; Input: how often, as 32 bits, little-endian. Status 1 unless each answer has 64 bytes.
  (func (export "hotcell_export_ask") (param $input i32) (param i32) (result i32)
    (local $left i32)
    (local.set $left (i32.load (local.get $input)))
    (block $done
      (loop $more
        (br_if $done (i32.eqz (local.get $left)))
        (if (i64.ne (call $host_call (i32.const 0x100) (i32.const 4) (i32.const 0x200) (i32.const 64)) (i64.const 64))
          (then (return (i32.const 1))))
        (drop (call $host_take (i32.const 0x300) (i32.const 64)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $more)))
    (i32.const 0)))
