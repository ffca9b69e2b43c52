//! What a screen reader sees, and what it can do.

use std::fmt::Write;

use tokio::runtime::Runtime;
use zbus::connection::Builder;
use zbus::{Address, Connection, OwnedObjectPath};

use crate::session::Session;
use bulkhead_testing::wait_for;

const ACCESSIBLE: &str = "org.a11y.atspi.Accessible";

/// States as AT-SPI numbers them.
const SENSITIVE: u32 = 24;
const SELECTED: u32 = 23;
const VISIBLE: u32 = 30;
const FOCUSED: u32 = 12;

/// The accessibility bus of a session.
pub(crate) struct Reader {
    runtime: Runtime,
    connection: Connection,
}

/// A widget as it is told to a screen reader, with what is in it.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) description: String,
    states: u64,
    at: (String, OwnedObjectPath),
    pub(crate) children: Vec<Node>,
}

impl Node {
    fn has(&self, state: u32) -> bool {
        self.states & (1 << state) != 0
    }

    pub(crate) fn is_sensitive(&self) -> bool {
        self.has(SENSITIVE)
    }

    pub(crate) fn is_selected(&self) -> bool {
        self.has(SELECTED)
    }

    pub(crate) fn is_focused(&self) -> bool {
        self.has(FOCUSED)
    }

    pub(crate) fn is_visible(&self) -> bool {
        self.has(VISIBLE)
    }

    /// It and everything in it, outermost first.
    pub(crate) fn all(&self) -> Vec<&Node> {
        let mut all = vec![self];
        for child in &self.children {
            all.extend(child.all());
        }
        all
    }

    /// What has this role and a name that fits.
    pub(crate) fn find(&self, role: &str, fits: impl Fn(&str) -> bool) -> Option<&Node> {
        let all = self.all();
        all.into_iter()
            .find(|node| node.role == role && fits(&node.name))
    }

    #[track_caller]
    pub(crate) fn button(&self, name: &str) -> &Node {
        self.find("button", |found| found == name)
            .unwrap_or_else(|| panic!("no button {name}:\n{}", self.outline()))
    }

    /// Every text that is told, in order.
    pub(crate) fn texts(&self) -> Vec<&str> {
        let named = self.all().into_iter().filter(|node| !node.name.is_empty());
        named.map(|node| node.name.as_str()).collect()
    }

    pub(crate) fn says(&self, text: &str) -> bool {
        self.texts().iter().any(|told| told.contains(text))
    }

    /// The tree, for a test that failed.
    pub(crate) fn outline(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, 0);
        out
    }

    fn write(&self, out: &mut String, depth: usize) {
        let _ = writeln!(
            out,
            "{:width$}{} {:?} {:?} {:x}",
            "",
            self.role,
            self.name,
            self.description,
            self.states,
            width = depth * 2
        );
        for child in &self.children {
            child.write(out, depth + 1);
        }
    }
}

impl Reader {
    pub(crate) fn start(session: &Session) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().expect("a runtime");
        let address = session.bus().to_owned();
        let connection = runtime.block_on(async {
            let session = connect(&address).await;
            let reply = session
                .call_method(
                    Some("org.a11y.Bus"),
                    "/org/a11y/bus",
                    Some("org.a11y.Bus"),
                    "GetAddress",
                    &(),
                )
                .await
                .expect("an accessibility bus: install at-spi2-core, as `cargo xtask setup` does");
            let address: String = reply.body().deserialize().expect("an address");
            connect(&address).await
        });
        Self {
            runtime,
            connection,
        }
    }

    /// The prompts on the screen, oldest call first.
    pub(crate) fn prompts(&self) -> Vec<Node> {
        let mut windows = self.windows();
        windows.retain(|window| window.name.starts_with("Call of "));
        windows
    }

    /// The notes on the screen, from the corner on.
    pub(crate) fn notes(&self) -> Vec<Node> {
        let mut windows = self.windows();
        windows.retain(|window| window.name == "Notices");
        let all = windows.iter().flat_map(Node::all);
        let notes = all.filter(|node| node.role == "alert");
        notes.cloned().collect()
    }

    fn windows(&self) -> Vec<Node> {
        self.runtime.block_on(async {
            let root = (
                "org.a11y.atspi.Registry".to_owned(),
                path("/org/a11y/atspi/accessible/root"),
            );
            let mut windows = Vec::new();
            for app in self.children(&root).await.unwrap_or_default() {
                for window in self.children(&app).await.unwrap_or_default() {
                    // A window that is closed while it is read is none.
                    windows.extend(self.node(window).await.ok());
                }
            }
            windows
        })
    }

    /// Waits for prompts that are as wanted.
    #[track_caller]
    pub(crate) fn wait_until<T>(&self, what: &str, is: impl Fn(&[Node]) -> Option<T>) -> T {
        wait_for(what, || is(&self.prompts()))
    }

    /// Waits for the only prompt.
    #[track_caller]
    pub(crate) fn prompt(&self) -> Node {
        self.wait_until("a prompt", |prompts| match prompts {
            [prompt] if !prompt.children.is_empty() => Some(prompt.clone()),
            _ => None,
        })
    }

    /// Waits until no prompt is on the screen.
    #[track_caller]
    pub(crate) fn wait_until_gone(&self) {
        self.wait_until("no prompt", |prompts| prompts.is_empty().then_some(()));
    }

    /// Presses a button, as far as it lets itself be pressed.
    pub(crate) fn press(&self, node: &Node) {
        let _ = self.runtime.block_on(self.call::<bool>(
            &node.at,
            "org.a11y.atspi.Action",
            "DoAction",
            &(0_i32,),
        ));
    }

    /// Where it is in its window: left, top, width, height.
    #[track_caller]
    pub(crate) fn place(&self, node: &Node) -> (i32, i32, i32, i32) {
        const IN_WINDOW: u32 = 1;
        let place = self.call(
            &node.at,
            "org.a11y.atspi.Component",
            "GetExtents",
            &(IN_WINDOW,),
        );
        let ((x, y, width, height),) = self.runtime.block_on(place).expect("a place");
        (x, y, width, height)
    }

    async fn call<T: for<'d> serde::Deserialize<'d> + zbus::Type>(
        &self,
        at: &(String, OwnedObjectPath),
        interface: &str,
        method: &str,
        body: &(impl serde::Serialize + zbus::DynamicType),
    ) -> zbus::Result<T> {
        let reply = self
            .connection
            .call_method(Some(at.0.as_str()), &at.1, Some(interface), method, body)
            .await?;
        let body = reply.body();
        body.deserialize()
    }

    async fn children(
        &self,
        at: &(String, OwnedObjectPath),
    ) -> zbus::Result<Vec<(String, OwnedObjectPath)>> {
        self.call(at, ACCESSIBLE, "GetChildren", &()).await
    }

    async fn text(&self, at: &(String, OwnedObjectPath), property: &str) -> zbus::Result<String> {
        let value: zbus::OwnedVariant = self
            .call(
                at,
                "org.freedesktop.DBus.Properties",
                "Get",
                &(ACCESSIBLE, property),
            )
            .await?;
        Ok(String::try_from(value).unwrap_or_default())
    }

    async fn node(&self, at: (String, OwnedObjectPath)) -> zbus::Result<Node> {
        let states: Vec<u32> = self.call(&at, ACCESSIBLE, "GetState", &()).await?;
        let mut node = Node {
            name: self.text(&at, "Name").await?,
            role: self.call(&at, ACCESSIBLE, "GetRoleName", &()).await?,
            description: self.text(&at, "Description").await?,
            states: states
                .iter()
                .rev()
                .fold(0, |all, part| (all << 32) | u64::from(*part)),
            children: Vec::new(),
            at,
        };
        for child in self.children(&node.at).await? {
            node.children.push(Box::pin(self.node(child)).await?);
        }
        Ok(node)
    }
}

fn path(text: &str) -> OwnedObjectPath {
    OwnedObjectPath::try_from(text).expect("a path")
}

pub(crate) async fn connect(address: &str) -> Connection {
    builder(address).build().await.expect("a bus")
}

/// The same, where something is to be served: before the connection is there, for what comes until
/// then would be lost.
pub(crate) fn builder(address: &str) -> Builder<'static> {
    let address: Address = address.parse().expect("an address");
    Builder::address(address)
}
