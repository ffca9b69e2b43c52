use bulkhead_vchan::seqpacket::send_packet;
use bulkhead_wire::relay::encode;

use super::*;
use crate::relays::Folder;

/// Takes note of when messages came, and of those that came.
#[derive(Debug, Default)]
struct Heard(Mutex<Vec<(FromProxy, Instant)>>);

impl WindowsEvents for Heard {
    fn message(
        &self,
        _display: &Arc<Display>,
        message: FromProxy,
        _fds: Vec<OwnedFd>,
    ) -> Result<(), String> {
        self.0.lock().unwrap().push((message, Instant::now()));
        Ok(())
    }

    fn ended(&self) {}
}

fn keeper(
    events: Arc<Heard>,
    folder: &std::path::Path,
    displays: &watch::Sender<Option<Arc<Display>>>,
) -> Keeper {
    let [shared, own] = ["vchan", "own"].map(|name| folder.join(name));
    for folder in [&shared, &own] {
        std::fs::create_dir(folder).unwrap();
    }
    let displays = displays.subscribe();
    Keeper {
        windows: Weak::new(),
        spec: WindowsSpec {
            program: "none".into(),
            qube: "work".to_owned(),
            domid: 1,
            options: Vec::new(),
            place: Arc::new(Place::Sockets(Folder::open(&shared, &own).unwrap())),
            sockets: shared,
            displays: displays.clone(),
        },
        displays,
        events,
        offers: Offers::Sockets(watch::Sender::new(0).subscribe()),
    }
}

#[tokio::test]
async fn messages_past_those_at_once_wait_and_all_are_heard() {
    const PAST: u32 = 10;
    let folder = tempfile::tempdir().unwrap();
    let heard = Arc::new(Heard::default());
    let displays = watch::Sender::new(None);
    let mut keeper = keeper(Arc::clone(&heard), folder.path(), &displays);
    let (near, far) = seqpacket::pair().unwrap();
    // The one that makes the first debt is heard before it is paid.
    let said: Vec<_> = (0..=MESSAGES_BURST + PAST)
        .map(|time| FromProxy::PasteAsked { time })
        .collect();
    for message in &said {
        send_packet(&far, &encode(message).unwrap(), &[]).unwrap();
    }
    drop(far);
    let child = Command::new("true").spawn().unwrap();
    let display = Arc::new(Display::new(":0", b"").unwrap());
    let link = Link::new(near).unwrap();
    let begin = Instant::now();
    let over = keeper.serve(&display, &link, child).await;
    assert!(matches!(over, Over::AgentGone), "{over:?}");
    let heard = heard.0.lock().unwrap();
    let messages: Vec<_> = heard.iter().map(|(message, _)| message.clone()).collect();
    assert_eq!(messages, said);
    let past = heard
        .iter()
        .skip(MESSAGES_BURST as usize)
        .map(|(_, at)| *at);
    for (owed, at) in (0..).zip(past) {
        let least = Duration::from_secs(1) / MESSAGES_PER_SECOND * owed;
        assert!(
            at - begin >= least,
            "{owed} past the limit: {:?}",
            at - begin
        );
    }
}
