;; A core module that misbehaves on purpose: one export per way to do so.
;;
;; The line above each export says what a host should report. "Trap" ends the call and the instance.
(module
  (import "hotcell" "reply" (func $reply (param i32 i32)))
  (import "hotcell" "host_call" (func $host_call (param i32 i32 i32 i32) (result i64)))
  (import "hotcell" "host_take" (func $host_take (param i32 i32) (result i32)))

  ;; Page 0: texts. Page 1: the input, as large as hotcell_alloc admits.
  (memory (export "memory") 2)
  (data (i32.const 16) "log")
  (data (i32.const 32) "{\"level\":\"error\",\"message\":\"a flood of messages, each of which wants to be kept\"}")
  (data (i32.const 128) "\ff\fe\fd")
  (data (i32.const 160) "refused")
  (data (i32.const 176) "hotcell.lab.undeclared")
  (data (i32.const 208) "failed")
  (data (i32.const 224) "memory.grow was refused")
  (data (i32.const 256) "\1b]52;c;aGk=\07\r\n[INFO] forged")

  (type $unary (func (param i32) (result i32)))
  (table 1 funcref)
  (elem (i32.const 0) $forever)

  (func (export "hotcell_plugin_v1") (result i32) (i32.const 0))

  ;; Inputs over 64 KiB are refused with a null pointer.
  (func (export "hotcell_alloc") (param $length i32) (result i32)
    (select (i32.const 0x10000) (i32.const 0) (i32.le_u (local.get $length) (i32.const 0x10000))))

  (func $forever (loop $again (br $again)))

  (func $descend (param $depth i32) (result i32)
    (i32.add (call $descend (i32.add (local.get $depth) (i32.const 1))) (local.get $depth)))

  ;; The status of an export after a host call: its answer as the reply, or an error text.
  (func $finish (param $status i64) (result i32)
    (if (result i32) (i64.eq (local.get $status) (i64.const -1))
      (then (call $reply (i32.const 160) (i32.const 7)) (i32.const 1))
      (else
        (if (result i32) (i64.lt_s (local.get $status) (i64.const 0))
          (then (call $reply (i32.const 208) (i32.const 6)) (i32.const 1))
          (else
            (call $reply (i32.const 0x10000) (call $host_take (i32.const 0x10000) (i32.const 0x10000)))
            (i32.const 0))))))

  ;; A reply: the input.
  (func (export "hotcell_export_ok") (param i32 i32) (result i32)
    (call $reply (local.get 0) (local.get 1))
    (i32.const 0))

  ;; Plugin error: the input.
  (func (export "hotcell_export_error") (param i32 i32) (result i32)
    (call $reply (local.get 0) (local.get 1))
    (i32.const 1))

  ;; Trap: unreachable.
  (func (export "hotcell_export_unreachable") (param i32 i32) (result i32)
    (unreachable))

  ;; Trap: call stack exhausted.
  (func (export "hotcell_export_stack_overflow") (param i32 i32) (result i32)
    (call $descend (i32.const 0)))

  ;; Trap: integer divide by zero.
  (func (export "hotcell_export_division") (param i32 i32) (result i32)
    (i32.div_s (i32.const 1) (i32.const 0)))

  ;; Trap: integer overflow.
  (func (export "hotcell_export_overflow") (param i32 i32) (result i32)
    (i32.div_s (i32.const 0x80000000) (i32.const -1)))

  ;; Trap: invalid conversion to integer.
  (func (export "hotcell_export_conversion") (param i32 i32) (result i32)
    (i32.trunc_f64_s (f64.const nan)))

  ;; Trap: out of bounds memory access.
  (func (export "hotcell_export_oob") (param i32 i32) (result i32)
    (i32.load (i32.const 0xfffffff0)))

  ;; A reply, empty: address 0 is ordinary memory in wasm.
  (func (export "hotcell_export_null_write") (param i32 i32) (result i32)
    (i32.store (i32.const 0) (i32.const 1))
    (i32.const 0))

  ;; Trap: out of bounds memory access, by a bulk operation.
  (func (export "hotcell_export_bulk_fill") (param i32 i32) (result i32)
    (memory.fill (i32.const 0) (i32.const 1) (i32.const 0xffffffff))
    (i32.const 0))

  ;; Trap: indirect call type mismatch.
  (func (export "hotcell_export_wrong_type") (param i32 i32) (result i32)
    (call_indirect (type $unary) (i32.const 0) (i32.const 0)))

  ;; Trap: undefined element.
  (func (export "hotcell_export_no_element") (param i32 i32) (result i32)
    (call_indirect (type $unary) (i32.const 0) (i32.const 7)))

  ;; Timed out.
  (func (export "hotcell_export_spin") (param i32 i32) (result i32)
    (call $forever)
    (i32.const 0))

  ;; Plugin error, "memory.grow was refused", after all that was granted is written to.
  (func (export "hotcell_export_memory_grow") (param i32 i32) (result i32)
    (local $page i32)
    (loop $more
      (local.set $page (memory.grow (i32.const 1)))
      (if (i32.ne (local.get $page) (i32.const -1))
        (then
          (memory.fill (i32.shl (local.get $page) (i32.const 16)) (i32.const 0x55) (i32.const 0x10000))
          (br $more))))
    (call $reply (i32.const 224) (i32.const 23))
    (i32.const 1))

  ;; Refused as too large, as far as memory could grow: a reply of all the memory there is.
  (func (export "hotcell_export_giant_reply") (param i32 i32) (result i32)
    (loop $more
      (br_if $more (i32.ne (memory.grow (i32.const 256)) (i32.const -1))))
    (call $reply (i32.const 0) (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 1)))
    (i32.const 0))

  ;; Trap or plugin error, never a crash: a reply outside of memory.
  (func (export "hotcell_export_bad_reply") (param i32 i32) (result i32)
    (call $reply (i32.const 0xfffffff0) (i32.const 0x20))
    (i32.const 0))

  ;; Trap or plugin error, never a crash: a reply that ends outside of memory.
  (func (export "hotcell_export_long_reply") (param i32 i32) (result i32)
    (call $reply (i32.const 0x1fff0) (i32.const 0x7fffffff))
    (i32.const 0))

  ;; Trap or plugin error, never a crash: the name of a host call outside of memory.
  (func (export "hotcell_export_bad_name") (param i32 i32) (result i32)
    (call $finish (call $host_call (i32.const 0xfffffff0) (i32.const 0x20) (i32.const 0) (i32.const 0))))

  ;; Trap or plugin error, never a crash: the input of a host call outside of memory.
  (func (export "hotcell_export_bad_input") (param i32 i32) (result i32)
    (call $finish (call $host_call (i32.const 16) (i32.const 3) (i32.const 0xfffffff0) (i32.const 0x20))))

  ;; Trap or plugin error, never a crash: the answer of a host call to be copied outside of memory.
  (func (export "hotcell_export_bad_take") (param i32 i32) (result i32)
    (drop (call $host_call (i32.const 16) (i32.const 3) (i32.const 32) (i32.const 81)))
    (drop (call $host_take (i32.const 0xfffffff0) (i32.const 0x20)))
    (i32.const 0))

  ;; A reply, empty: there is no answer to take before any host call.
  (func (export "hotcell_export_early_take") (param i32 i32) (result i32)
    (call $reply (i32.const 0) (call $host_take (i32.const 0) (i32.const 0x10000)))
    (i32.const 0))

  ;; Plugin error "refused": a name that is not UTF-8.
  (func (export "hotcell_export_wrong_name") (param i32 i32) (result i32)
    (call $finish (call $host_call (i32.const 128) (i32.const 3) (i32.const 0) (i32.const 0))))

  ;; Plugin error "refused": a host call that the manifest does not declare.
  (func (export "hotcell_export_undeclared") (param i32 i32) (result i32)
    (call $finish (call $host_call (i32.const 176) (i32.const 22) (i32.const 0) (i32.const 0))))

  ;; A reply: bytes that are no JSON and want to forge a log line become one escaped record of the log.
  (func (export "hotcell_export_log_garbage") (param i32 i32) (result i32)
    (call $finish (call $host_call (i32.const 16) (i32.const 3) (i32.const 256) (i32.const 27))))

  ;; The answer of the host call `log`, empty, with the input as its input.
  (func (export "hotcell_export_log") (param i32 i32) (result i32)
    (call $finish (call $host_call (i32.const 16) (i32.const 3) (local.get 0) (local.get 1))))

  ;; Timed out: the log keeps a bounded part of it. Plugin error "refused" if it may not log.
  (func (export "hotcell_export_log_flood") (param i32 i32) (result i32)
    (local $status i64)
    (loop $more
      (local.set $status (call $host_call (i32.const 16) (i32.const 3) (i32.const 32) (i32.const 81)))
      (br_if $more (i64.ge_s (local.get $status) (i64.const 0))))
    (call $finish (local.get $status)))

  ;; Timed out, refused all the while: each host call costs the plugin, not the host.
  (func (export "hotcell_export_host_call_bomb") (param i32 i32) (result i32)
    (loop $more
      (drop (call $host_call (i32.const 176) (i32.const 22) (i32.const 0) (i32.const 0x10000)))
      (br $more))
    (i32.const 0)))
