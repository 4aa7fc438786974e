//! What may arrive from a worker, and when: the state machine behind a hostile channel.
//!
//! Pure: it gets packets that were already decoded with a bound, and says what they amount to, or how they break the
//! protocol. A breach is answered by SIGKILL, never by a message. Payload memory grows only as bytes arrive, and only
//! after the announced length was checked against the plan.

use hotcell_protocol::{CallId, Envelope, Failure, FromWorker, Generation, PACKET_MAX, ReplyStatus};

use crate::budget::FREE;

/// Longest name of a host call, in bytes.
pub(crate) const NAME_MAX: usize = 128;

/// The call id of host calls that a plugin makes while it starts.
pub(crate) const STARTING: CallId = CallId(0);

/// Longest text of a worker's failure that is kept, in bytes.
const DETAIL_MAX: usize = 4096;

/// Memory reserved ahead for an announced payload.
const AHEAD: usize = 64 << 10;

/// Room in the host's budget that a payload takes at once, as it grows.
const STEP: usize = 256 << 10;

/// How a worker broke the protocol.
pub(crate) type Breach = String;

/// Something complete that arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// A step of the start failed; the worker exits.
    Failed(Failure),
    /// The artifact is mapped.
    Loaded,
    /// Calls may be sent.
    Ready,
    /// A payload of this many bytes will follow: see whether the host can ever hold it.
    Announced(u64),
    /// The payload grows: make room for this many more bytes in the host's budget before the next packet.
    Grows(u64),
    /// The running call ended.
    Reply {
        /// How, as the worker claims.
        status: ReplyStatus,
        /// Reply or explanation.
        payload: Vec<u8>,
    },
    /// The plugin waits for an answer.
    HostCall {
        /// The host call's name.
        name: String,
        /// Its input.
        input: Vec<u8>,
    },
}

/// What the worker may send next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// `Loaded` or `Failed`. No host call: the plugin has not met its host yet.
    Loaded,
    /// `Ready`, `Failed`, or a host call of the plugin's start.
    Ready,
    /// `Reply` or a host call, within this call.
    Reply(CallId),
    /// Nothing: it is idle, or waits for an answer.
    Silence,
}

#[derive(Debug)]
struct Partial {
    head: Head,
    call: CallId,
    left: usize,
    /// Bytes that the host has room for.
    room: usize,
    payload: Vec<u8>,
}

#[derive(Debug)]
enum Head {
    Reply(ReplyStatus),
    HostCall(String),
}

impl Partial {
    /// Asks for room where the next packet may not fit.
    fn grow(&mut self) -> Option<Incoming> {
        let next = self.payload.len() + self.left.min(PACKET_MAX);
        if next <= self.room {
            return None;
        }
        let step = (self.payload.len() + self.left - self.room).min(STEP);
        self.room += step;
        Some(Incoming::Grows(step as u64))
    }
}

/// The receiving state of one worker channel.
#[derive(Debug)]
pub(crate) struct Inbox {
    generation: Generation,
    limit: u64,
    expect: Expect,
    partial: Option<Partial>,
}

impl Inbox {
    /// Waits for `Loaded`; `limit` bounds every payload, in bytes.
    pub(crate) fn new(generation: Generation, limit: u64) -> Inbox {
        Inbox { generation, limit, expect: Expect::Loaded, partial: None }
    }

    /// Says what may come from now on.
    pub(crate) fn expect(&mut self, expect: Expect) {
        self.expect = expect;
    }

    /// Takes the next packet. `None` while a payload is not complete.
    pub(crate) fn accept(
        &mut self,
        envelope: Envelope<FromWorker>,
        bytes: &[u8],
    ) -> Result<Option<Incoming>, Breach> {
        if envelope.generation != self.generation {
            return Err(format!("a message of generation {}", envelope.generation.0));
        }
        match (envelope.message, self.partial.take()) {
            (FromWorker::Data { call, .. }, Some(partial)) => self.piece(call, bytes, partial),
            (FromWorker::Data { .. }, None) => Err("a payload that was not announced".to_owned()),
            (_, Some(_)) => Err("a message inside a payload".to_owned()),
            (message, None) => self.message(message),
        }
    }

    fn message(&mut self, message: FromWorker) -> Result<Option<Incoming>, Breach> {
        match (message, self.expect) {
            (FromWorker::Loaded, Expect::Loaded) => Ok(Some(Incoming::Loaded)),
            (FromWorker::Ready, Expect::Ready) => {
                self.expect = Expect::Silence;
                Ok(Some(Incoming::Ready))
            }
            (FromWorker::Failed(mut failure), Expect::Loaded | Expect::Ready) => {
                self.expect = Expect::Silence;
                cut(&mut failure.detail);
                Ok(Some(Incoming::Failed(failure)))
            }
            (FromWorker::Reply { call, status, len }, Expect::Reply(running)) if call == running => {
                self.announce(Head::Reply(status), call, len)
            }
            (FromWorker::HostCall { call, name, len }, Expect::Reply(running)) if call == running => {
                self.announce(Head::HostCall(name), call, len)
            }
            (FromWorker::HostCall { call: STARTING, name, len }, Expect::Ready) => {
                self.announce(Head::HostCall(name), STARTING, len)
            }
            (message, expect) => Err(format!("{} while {}", kind(&message), state(expect))),
        }
    }

    fn announce(&mut self, head: Head, call: CallId, len: u64) -> Result<Option<Incoming>, Breach> {
        if matches!(&head, Head::HostCall(name) if name.len() > NAME_MAX) {
            return Err("a host call's name is too long".to_owned());
        }
        let left = usize::try_from(len).ok().filter(|_| len <= self.limit);
        let Some(left) = left else {
            return Err(format!("a payload of {len} bytes, over the limit of {}", self.limit));
        };
        let partial = Partial { head, call, left, room: FREE, payload: Vec::new() };
        if left == 0 {
            return Ok(Some(self.complete(partial)));
        }
        self.partial = Some(partial);
        Ok(Some(Incoming::Announced(len)))
    }

    fn piece(
        &mut self,
        call: CallId,
        bytes: &[u8],
        mut partial: Partial,
    ) -> Result<Option<Incoming>, Breach> {
        if call != partial.call {
            return Err("a payload of another call".to_owned());
        }
        if bytes.is_empty() {
            return Err("an empty piece of a payload".to_owned());
        }
        partial.left = partial.left.checked_sub(bytes.len()).ok_or("more payload than announced")?;
        if partial.payload.capacity() == 0 {
            partial.payload.reserve(bytes.len().saturating_add(partial.left.min(AHEAD)));
        }
        partial.payload.extend_from_slice(bytes);
        if partial.left == 0 {
            return Ok(Some(self.complete(partial)));
        }
        let grows = partial.grow();
        self.partial = Some(partial);
        Ok(grows)
    }

    /// Nothing more may come until the host has spoken.
    fn complete(&mut self, partial: Partial) -> Incoming {
        self.expect = Expect::Silence;
        match partial.head {
            Head::Reply(status) => Incoming::Reply { status, payload: partial.payload },
            Head::HostCall(name) => Incoming::HostCall { name, input: partial.payload },
        }
    }
}

fn cut(text: &mut String) {
    let end = (0..=DETAIL_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
}

fn kind(message: &FromWorker) -> &'static str {
    match message {
        FromWorker::Listener => "a listener",
        FromWorker::Confined(_) => "evidence",
        FromWorker::Failed(_) => "a failure",
        FromWorker::Loaded => "\"loaded\"",
        FromWorker::Ready => "\"ready\"",
        FromWorker::Reply { .. } => "a reply",
        FromWorker::HostCall { .. } => "a host call",
        FromWorker::Data { .. } => "data",
    }
}

fn state(expect: Expect) -> &'static str {
    match expect {
        Expect::Loaded => "it loads",
        Expect::Ready => "it starts",
        Expect::Reply(_) => "another call runs",
        Expect::Silence => "nothing was asked",
    }
}

#[cfg(test)]
mod tests {
    use hotcell_protocol::{
        CallId, Channel, Envelope, Failure, FromWorker, Generation, PACKET_MAX, ReplyStatus, Step,
    };

    use super::{Breach, Expect, Inbox, Incoming};

    const LIMIT: u64 = 100;

    /// A worker that sends anything, and the host's inbox behind a real channel.
    struct Pair {
        near: Channel,
        far: Channel,
        inbox: Inbox,
    }

    impl Pair {
        fn new(expect: Expect) -> Pair {
            let (near, far) = Channel::pair().expect("socketpair");
            let mut inbox = Inbox::new(Generation(3), LIMIT);
            inbox.expect(expect);
            Pair { near, far, inbox }
        }

        fn send(&mut self, message: FromWorker, payload: &[u8]) -> Result<Option<Incoming>, Breach> {
            self.send_as(3, message, payload)
        }

        fn send_as(
            &mut self,
            generation: u32,
            message: FromWorker,
            payload: &[u8],
        ) -> Result<Option<Incoming>, Breach> {
            let envelope = Envelope { generation: Generation(generation), message };
            self.far.send(&envelope, payload).expect("sends");
            let mut buffer = Box::new([0; PACKET_MAX]);
            let packet = self.near.receive::<Envelope<FromWorker>>(&mut buffer).expect("receives");
            self.inbox.accept(packet.message, packet.payload)
        }
    }

    fn reply(call: u64, len: u64) -> FromWorker {
        FromWorker::Reply { call: CallId(call), status: ReplyStatus::Ok, len }
    }

    fn host_call(call: u64, name: &str, len: u64) -> FromWorker {
        FromWorker::HostCall { call: CallId(call), name: name.to_owned(), len }
    }

    fn data(call: u64, len: u32) -> FromWorker {
        FromWorker::Data { call: CallId(call), len }
    }

    #[test]
    fn an_honest_worker_is_understood() {
        let mut pair = Pair::new(Expect::Loaded);
        assert_eq!(pair.send(FromWorker::Loaded, &[]), Ok(Some(Incoming::Loaded)));
        pair.inbox.expect(Expect::Ready);
        let call = Incoming::HostCall { name: "log".to_owned(), input: Vec::new() };
        assert_eq!(pair.send(host_call(0, "log", 0), &[]), Ok(Some(call)));
        pair.inbox.expect(Expect::Ready);
        assert_eq!(pair.send(FromWorker::Ready, &[]), Ok(Some(Incoming::Ready)));
        pair.inbox.expect(Expect::Reply(CallId(7)));
        assert_eq!(pair.send(reply(7, 5), &[]), Ok(Some(Incoming::Announced(5))));
        assert_eq!(pair.send(data(7, 3), b"abc"), Ok(None));
        let whole = Incoming::Reply { status: ReplyStatus::Ok, payload: b"abcde".to_vec() };
        assert_eq!(pair.send(data(7, 2), b"de"), Ok(Some(whole)));
    }

    #[test]
    fn room_is_asked_for_as_bytes_arrive_and_never_for_a_small_payload() {
        let total = 600 << 10;
        let mut near = Inbox::new(Generation(3), total);
        near.expect(Expect::Reply(CallId(7)));
        let mut take = |message, bytes: &[u8]| {
            near.accept(Envelope { generation: Generation(3), message }, bytes).expect("honest")
        };
        assert_eq!(take(reply(7, total), &[]), Some(Incoming::Announced(total)), "holds nothing yet");
        let (mut room, mut sent) = (super::FREE as u64, 0);
        loop {
            let piece = (total - sent).min(50 << 10);
            sent += piece;
            assert!(sent <= room, "{sent} bytes arrived with room for {room}");
            match take(data(7, 50 << 10), &vec![0; usize::try_from(piece).expect("small")]) {
                None => {}
                Some(Incoming::Grows(more)) => room += more,
                Some(Incoming::Reply { payload, .. }) => break assert_eq!(payload.len() as u64, total),
                other => unreachable!("{other:?}"),
            }
        }
        assert_eq!(room, total, "control: no more than it needs");
        let mut pair = Pair::new(Expect::Reply(CallId(7)));
        pair.send(reply(7, 100), &[]).expect("announces");
        assert_eq!(pair.send(data(7, 50), &[0; 50]), Ok(None));
    }

    #[test]
    fn a_second_reply_a_wrong_call_and_a_stale_generation_are_breaches() {
        let mut pair = Pair::new(Expect::Reply(CallId(7)));
        pair.send(reply(7, 0), &[]).expect("control: the first reply");
        assert!(pair.send(reply(7, 0), &[]).is_err());
        assert!(Pair::new(Expect::Reply(CallId(7))).send(reply(8, 0), &[]).is_err());
        assert!(Pair::new(Expect::Reply(CallId(7))).send_as(2, reply(7, 0), &[]).is_err());
    }

    #[test]
    fn an_announced_length_over_the_limit_is_a_breach_before_any_byte() {
        for len in [LIMIT + 1, 1 << 46, u64::MAX] {
            assert!(Pair::new(Expect::Reply(CallId(7))).send(reply(7, len), &[]).is_err());
        }
        Pair::new(Expect::Reply(CallId(7))).send(reply(7, LIMIT), &[]).expect("just inside");
    }

    #[test]
    fn payload_that_does_not_fit_its_announcement_is_a_breach() {
        let announced = || {
            let mut pair = Pair::new(Expect::Reply(CallId(7)));
            pair.send(reply(7, 4), &[]).expect("announces");
            pair
        };
        announced().send(data(7, 4), b"1234").expect("control: it fits");
        assert!(announced().send(data(7, 5), b"12345").is_err(), "more than announced");
        assert!(announced().send(data(8, 4), b"1234").is_err(), "another call's");
        assert!(announced().send(data(7, 0), b"").is_err(), "empty pieces for ever");
        assert!(announced().send(reply(7, 0), &[]).is_err(), "a message inside");
        assert!(Pair::new(Expect::Reply(CallId(7))).send(data(7, 4), b"1234").is_err(), "not announced");
    }

    #[test]
    fn messages_out_of_their_time_are_breaches() {
        for expect in [Expect::Silence, Expect::Reply(CallId(7)), Expect::Ready] {
            assert!(Pair::new(expect).send(FromWorker::Loaded, &[]).is_err(), "{expect:?}");
        }
        for expect in [Expect::Silence, Expect::Reply(CallId(7)), Expect::Loaded] {
            assert!(Pair::new(expect).send(FromWorker::Ready, &[]).is_err(), "{expect:?}");
            assert!(Pair::new(expect).send(host_call(0, "log", 0), &[]).is_err(), "{expect:?}");
        }
        let failure = Failure { step: Step::Load, errno: 0, detail: "x".to_owned() };
        assert!(Pair::new(Expect::Reply(CallId(7))).send(FromWorker::Failed(failure), &[]).is_err());
        let long = "x".repeat(super::NAME_MAX + 1);
        assert!(Pair::new(Expect::Reply(CallId(7))).send(host_call(7, &long, 0), &[]).is_err());
    }

    #[test]
    fn a_reply_while_its_own_host_call_is_open_is_a_breach() {
        let mut pair = Pair::new(Expect::Reply(CallId(7)));
        pair.send(host_call(7, "log", 0), &[]).expect("control: one host call");
        assert!(pair.send(reply(7, 0), &[]).is_err());
    }
}
