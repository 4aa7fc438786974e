;; Replies with its input, with the calls that Extism's Rust PDK makes for a function from bytes to bytes: the input
;; is loaded into the plugin's memory and the output stored from there, eight bytes a call, then byte by byte.
(module
  (import "extism:host/env" "input_length" (func $input_length (result i64)))
  (import "extism:host/env" "input_load_u64" (func $input_load_u64 (param i64) (result i64)))
  (import "extism:host/env" "input_load_u8" (func $input_load_u8 (param i64) (result i32)))
  (import "extism:host/env" "alloc" (func $alloc (param i64) (result i64)))
  (import "extism:host/env" "store_u64" (func $store_u64 (param i64 i64)))
  (import "extism:host/env" "store_u8" (func $store_u8 (param i64 i32)))
  (import "extism:host/env" "output_set" (func $output_set (param i64 i64)))

  ;; 16 MiB of payload from address 0.
  (memory (export "memory") 256)

  (func $load (param $length i64)
    (local $at i64) (local $words i64)
    (local.set $words (i64.and (local.get $length) (i64.const -8)))
    (block $loaded
      (loop $word
        (br_if $loaded (i64.ge_u (local.get $at) (local.get $words)))
        (i64.store (i32.wrap_i64 (local.get $at)) (call $input_load_u64 (local.get $at)))
        (local.set $at (i64.add (local.get $at) (i64.const 8)))
        (br $word)))
    (block $loaded
      (loop $byte
        (br_if $loaded (i64.ge_u (local.get $at) (local.get $length)))
        (i32.store8 (i32.wrap_i64 (local.get $at)) (call $input_load_u8 (local.get $at)))
        (local.set $at (i64.add (local.get $at) (i64.const 1)))
        (br $byte))))

  (func $store (param $to i64) (param $length i64)
    (local $at i64) (local $words i64)
    (local.set $words (i64.and (local.get $length) (i64.const -8)))
    (block $stored
      (loop $word
        (br_if $stored (i64.ge_u (local.get $at) (local.get $words)))
        (call $store_u64 (i64.add (local.get $to) (local.get $at)) (i64.load (i32.wrap_i64 (local.get $at))))
        (local.set $at (i64.add (local.get $at) (i64.const 8)))
        (br $word)))
    (block $stored
      (loop $byte
        (br_if $stored (i64.ge_u (local.get $at) (local.get $length)))
        (call $store_u8 (i64.add (local.get $to) (local.get $at)) (i32.load8_u (i32.wrap_i64 (local.get $at))))
        (local.set $at (i64.add (local.get $at) (i64.const 1)))
        (br $byte))))

  (func (export "echo") (result i32)
    (local $length i64) (local $output i64)
    (local.set $length (call $input_length))
    (call $load (local.get $length))
    (local.set $output (call $alloc (local.get $length)))
    (call $store (local.get $output) (local.get $length))
    (call $output_set (local.get $output) (local.get $length))
    (i32.const 0)))
