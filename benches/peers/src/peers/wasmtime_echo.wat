;; Replies with its input. The reply is the input's own bytes: the results are its address and its length.
(module
  ;; 16 MiB of payload after one empty page.
  (memory (export "memory") 257)

  (func (export "alloc") (param $length i32) (result i32)
    (if (i32.gt_u (local.get $length) (i32.const 0x1000000)) (then (unreachable)))
    (i32.const 0x10000))

  (func (export "echo") (param $address i32) (param $length i32) (result i32 i32)
    (local.get $address)
    (local.get $length)))
