//! What xenstore says: splits change nothing, and what is understood is what was said.
#![no_main]

use bulkhead_fuzz::stepped;
use bulkhead_vchan::xen::store::wire::{Decoder, Message, WireError, strings};
use libfuzzer_sys::fuzz_target;

fn run(data: &[u8], step: usize) -> (Vec<Message>, Option<WireError>) {
    let (mut decoder, mut messages) = (Decoder::default(), Vec::new());
    for part in data.chunks(step) {
        decoder.push(part);
        loop {
            match decoder.take() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

fuzz_target!(|data: &[u8]| {
    let Some((step, rest)) = stepped(data) else {
        return;
    };
    let (messages, error) = run(rest, step);
    let whole = run(rest, rest.len().max(1));
    assert_eq!((&messages, &error), (&whole.0, &whole.1));
    let said: Vec<u8> = messages.iter().flat_map(Message::encode).collect();
    assert!(rest.starts_with(&said));
    for message in &messages {
        let total: usize = strings(&message.payload).map(<[u8]>::len).sum();
        assert!(total <= message.payload.len());
    }
});
