//! A packet of a channel, as it comes out of the socket.

use std::fs::File;
use std::io::Write;

use hotcell_protocol::{Channel, ChannelError, Envelope, FromWorker, PACKET_MAX, codec};

/// A packet is the message that fills it, or an error; one that is too long is malformed, and the next one comes whole.
///
/// The first two bytes say how many more follow the rest, so that long packets need no long input.
pub fn packet(data: &[u8]) {
    let (pad, rest) = data.split_at(data.len().min(2));
    let pad = pad.iter().rev().fold(0, |pad, byte| pad << 8 | usize::from(*byte));
    let bytes = [rest, &vec![0; pad]].concat();
    let (near, far) = Channel::pair().expect("a pair of sockets");
    let mut far = File::from(far.into_socket());
    far.write_all(&bytes).expect("one packet");
    far.write_all(&ready()).expect("one packet");
    if bytes.is_empty() {
        // Nothing was sent: a packet of no bytes is the end of a channel.
        return;
    }
    assert_eq!(near.next_len().expect("a packet"), bytes.len());
    let received = near.receive::<Envelope<FromWorker>>(&mut vec![0; PACKET_MAX]);
    match (received, codec::decode::<Envelope<FromWorker>>(&bytes)) {
        (Err(ChannelError::Malformed(_)), _) => assert!(bytes.len() > PACKET_MAX),
        (Ok((message, descriptors)), Ok(wanted)) => assert_eq!((message, descriptors.len()), (wanted, 0)),
        (Err(ChannelError::Codec(_)), Err(_)) => assert!(bytes.len() <= PACKET_MAX),
        (received, wanted) => unreachable!("received {received:?}, wanted {wanted:?}"),
    }
    let (next, _) = near.receive::<Envelope<FromWorker>>(&mut vec![0; PACKET_MAX]).expect("the next packet");
    assert_eq!(next.message, FromWorker::Ready);
}

fn ready() -> Vec<u8> {
    let generation = hotcell_protocol::Generation(1);
    codec::encode(&Envelope { generation, message: FromWorker::Ready }).expect("encodes")
}
