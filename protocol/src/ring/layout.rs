//! Where everything lies in a channel's memory.
//!
//! Words that different sides write lie in cache lines of their own. The first page holds all of them:
//!
//! | offset in a direction's block | word | written by |
//! |---|---|---|
//! | 0, 8 | `head`, `bulk_head`: bytes ever published | writer |
//! | 64, 72 | `tail`, `bulk_tail`: bytes ever consumed | reader |
//! | 128 | `asleep`: how the reader wants to be woken | reader, taken by the writer |
//! | 192 | `stuck`: how a writer that waits for room wants to be woken | writer, taken by the reader |

/// Whether loom goes through every order of accesses: then everything is small.
const MODEL: bool = cfg!(hotcell_model);

/// Bytes of the page with the cursors.
const CONTROL_LEN: usize = 4096;

/// Bytes of one ring of messages. Small, because a busy plugin touches all of it.
const MESSAGES_LEN: usize = if MODEL { 64 } else { 32 << 10 };

/// Bytes of one ring of bulk bytes. Untouched until the first large payload. What does not fit streams through it in turns, which is
/// slower; a MiB fits with what goes before it, such as a state's version.
pub const BULK_LEN: usize = if MODEL { 16 } else { 2 << 20 };

/// Where a worker notes its end: behind the rings, of no meaning to them.
pub(super) const NOTES: Area = Area {
    start: CONTROL_LEN + 2 * MESSAGES_LEN + 2 * BULK_LEN,
    len: if MODEL { 0 } else { crate::crash::layout::SIZE },
};

/// Bytes of the whole file.
pub const FILE_LEN: usize = NOTES.start + NOTES.len;

/// Largest encoded message, in bytes.
pub const HEAD_MAX: usize = if MODEL { 8 } else { 8 << 10 };

/// Largest payload that travels in its message's frame, in bytes; a larger one goes through the bulk ring.
pub const INLINE_MAX: usize = if MODEL { 8 } else { 4 << 10 };

/// Bytes of a frame's header: state, generation, bytes of the message, bytes of the payload behind it.
pub(super) const HEADER_LEN: usize = 16;

/// Frames start at multiples of this, so that no header wraps around.
pub(super) const FRAME_ALIGN: usize = 16;

/// Messages and payloads start at multiples of this.
pub(super) const PART_ALIGN: usize = 8;

const _: () =
    assert!(HEADER_LEN + HEAD_MAX + INLINE_MAX <= MESSAGES_LEN / 2, "a frame fits, whatever is behind it");
const _: () = assert!(MESSAGES_LEN.is_power_of_two() && BULK_LEN.is_power_of_two(), "positions are masked");

/// A ring's bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area {
    pub(super) start: usize,
    /// A power of two.
    pub(super) len: usize,
}

/// One direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    control: usize,
    pub(super) messages: Area,
    pub(super) bulk: Area,
}

/// Host to worker.
pub(super) const DOWN: Way = Way {
    control: 0,
    messages: Area { start: CONTROL_LEN, len: MESSAGES_LEN },
    bulk: Area { start: CONTROL_LEN + 2 * MESSAGES_LEN, len: BULK_LEN },
};

/// Worker to host.
pub(super) const UP: Way = Way {
    control: 1024,
    messages: Area { start: CONTROL_LEN + MESSAGES_LEN, len: MESSAGES_LEN },
    bulk: Area { start: CONTROL_LEN + 2 * MESSAGES_LEN + BULK_LEN, len: BULK_LEN },
};

impl Way {
    pub(super) const fn head(self) -> usize {
        self.control
    }

    pub(super) const fn bulk_head(self) -> usize {
        self.control + 8
    }

    pub(super) const fn tail(self) -> usize {
        self.control + 64
    }

    pub(super) const fn bulk_tail(self) -> usize {
        self.control + 72
    }

    pub(super) const fn asleep(self) -> usize {
        self.control + 128
    }

    pub(super) const fn stuck(self) -> usize {
        self.control + 192
    }
}

/// Bytes of a frame, from its header to the start of the next one.
pub(super) const fn frame_len(head: usize, payload: usize) -> usize {
    (HEADER_LEN + part_len(head) + payload).next_multiple_of(FRAME_ALIGN)
}

/// Bytes that a part takes with the padding behind it.
pub(super) const fn part_len(len: usize) -> usize {
    len.next_multiple_of(PART_ALIGN)
}
