//! Finding the first rule for a call without trying the others.
//!
//! Rules fall into buckets by service, argument and source, and within a bucket by target; of
//! each the earliest rule is kept. Service, argument, source and target of a call each fit a
//! handful of tokens (a name, its tags, `@anyvm`, ...), so a call looks up a handful of buckets,
//! however many rules there are, and takes the earliest rule found.

use hashbrown::HashMap;

use crate::request::{Call, Party, Wanted};
use crate::rule::Rule;
use crate::token::{SourceToken, TargetToken};
use crate::view::{OwnBase, QubeIndex, SystemView};

/// Position of a rule in file order.
type Position = u32;

/// A string of the policy as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Symbol(u32);

/// A token of a rule's source or target column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Wildcard,
    AnyVm,
    /// dom0 in any spelling.
    Dom0,
    Default,
    Dispvm,
    Qube(Symbol),
    Type(Symbol),
    Tag(Symbol),
    DispvmOf(Symbol),
    DispvmTag(Symbol),
    /// Any rule of the kind: what a call meets that cannot be compared with it.
    SomeDispvmOf,
    SomeDispvmTag,
}

/// The keys that a call fits. Those of a call rarely exceed the array; more go to the heap.
struct Keys {
    few: [Key; FEW],
    count: usize,
    more: Vec<Key>,
}

/// A qube has name, UUID, class, three general tokens and its tags; only tags that rules name
/// count.
const FEW: usize = 24;

impl Keys {
    fn new() -> Self {
        Self {
            few: [Key::Wildcard; FEW],
            count: 0,
            more: Vec::new(),
        }
    }

    fn push(&mut self, key: Key) {
        match self.few.get_mut(self.count) {
            Some(slot) => {
                *slot = key;
                self.count += 1;
            }
            None => self.more.push(key),
        }
    }

    fn iter(&self) -> impl Iterator<Item = Key> {
        let few = self.few.get(..self.count).unwrap_or_default();
        few.iter().chain(&self.more).copied()
    }
}

/// The rules of one service, argument and source.
#[derive(Debug, Clone, Default)]
struct Bucket {
    /// All of them, in order.
    all: Vec<Position>,
}

type BucketNumber = u32;

/// What a bucket is for; a service or argument of none is `*`.
type BucketKey = (Option<Symbol>, Option<Symbol>, Key);

/// Service and argument of a call, as far as rules name them.
pub(crate) type Named = (Option<Symbol>, Option<Symbol>);

/// Everything that is looked up, built once per policy.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    symbols: HashMap<Box<str>, Symbol>,
    by_key: HashMap<BucketKey, BucketNumber>,
    buckets: Vec<Bucket>,
    /// The first rule of each bucket for each target.
    first: HashMap<(BucketNumber, Key), Position>,
}

impl Index {
    pub(crate) fn new(rules: &[Rule]) -> Self {
        let mut index = Self {
            by_key: HashMap::with_capacity(rules.len()),
            first: HashMap::with_capacity(rules.len()),
            ..Self::default()
        };
        for (position, rule) in (0..).zip(rules) {
            index.insert(rule, position);
        }
        index
    }

    fn insert(&mut self, rule: &Rule, position: Position) {
        let source = match &rule.source {
            SourceToken::Wildcard => Key::Wildcard,
            SourceToken::AnyVm => Key::AnyVm,
            SourceToken::AdminVm => Key::Dom0,
            SourceToken::Qube(qube) if qube.is_dom0() => Key::Dom0,
            SourceToken::Qube(qube) => Key::Qube(self.intern(qube.as_str())),
            SourceToken::Type(class) => Key::Type(self.intern(class)),
            SourceToken::Tag(tag) => Key::Tag(self.intern(tag)),
            // No caller is ever a disposable that does not exist yet.
            SourceToken::Disposable(_) => return,
        };
        let service = rule.service.as_ref().map(|service| self.intern(service));
        let argument = rule.argument.as_ref().map(|argument| self.intern(argument));
        let next = u32::try_from(self.buckets.len()).unwrap_or(u32::MAX);
        let number = *(self.by_key.entry((service, argument, source))).or_insert(next);
        if number == next {
            self.buckets.push(Bucket::default());
        }
        let (target, kind) = self.target_key(&rule.target);
        self.first.entry((number, target)).or_insert(position);
        if let Some(kind) = kind {
            self.first.entry((number, kind)).or_insert(position);
        }
        if let Some(bucket) = self.buckets.get_mut(number as usize) {
            bucket.all.push(position);
        }
    }

    fn target_key(&mut self, target: &TargetToken) -> (Key, Option<Key>) {
        match target {
            TargetToken::Wildcard => (Key::Wildcard, None),
            TargetToken::AnyVm => (Key::AnyVm, None),
            TargetToken::AdminVm => (Key::Dom0, None),
            TargetToken::Default => (Key::Default, None),
            TargetToken::Qube(qube) if qube.is_dom0() => (Key::Dom0, None),
            TargetToken::Qube(qube) => (Key::Qube(self.intern(qube.as_str())), None),
            TargetToken::Type(class) => (Key::Type(self.intern(class)), None),
            TargetToken::Tag(tag) => (Key::Tag(self.intern(tag)), None),
            TargetToken::Dispvm => (Key::Dispvm, None),
            TargetToken::DispvmOf(base) => {
                let key = Key::DispvmOf(self.intern(base.as_str()));
                (key, Some(Key::SomeDispvmOf))
            }
            TargetToken::DispvmTag(tag) => {
                let key = Key::DispvmTag(self.intern(tag));
                (key, Some(Key::SomeDispvmTag))
            }
        }
    }

    fn intern(&mut self, text: &str) -> Symbol {
        if let Some(symbol) = self.symbols.get(text) {
            return *symbol;
        }
        let symbol = Symbol(u32::try_from(self.symbols.len()).unwrap_or(u32::MAX));
        self.symbols.insert(text.into(), symbol);
        symbol
    }

    fn symbol(&self, text: &str) -> Option<Symbol> {
        self.symbols.get(text).copied()
    }

    /// What rules call the service and the argument of a call.
    pub(crate) fn named(&self, call: &Call<'_>) -> Named {
        (self.symbol(call.service), self.symbol(call.argument))
    }

    /// The first rule whose service, argument, source and target fit `call`, or that fits all but
    /// a target with which the call cannot be compared.
    pub(crate) fn first(&self, call: &Call<'_>, view: &SystemView) -> Option<usize> {
        let wanted = self.wanted_keys(call, view);
        let mut first = Position::MAX;
        self.each_bucket(self.named(call), &call.source, view, |number| {
            for target in wanted.iter() {
                if let Some(position) = self.first.get(&(number, target)) {
                    first = first.min(*position);
                }
            }
        });
        (first != Position::MAX).then_some(first as usize)
    }

    /// All rules whose service, argument and source fit, in order.
    pub(crate) fn all_but_target(
        &self,
        named: Named,
        source: &Party<'_>,
        view: &SystemView,
    ) -> Vec<usize> {
        let mut all = Vec::new();
        self.each_bucket(named, source, view, |number| {
            if let Some(bucket) = self.buckets.get(number as usize) {
                all.extend(bucket.all.iter().map(|position| *position as usize));
            }
        });
        all.sort_unstable();
        all
    }

    fn each_bucket(
        &self,
        (service, argument): Named,
        source: &Party<'_>,
        view: &SystemView,
        mut visit: impl FnMut(BucketNumber),
    ) {
        let sources = self.source_keys(source, view);
        let mut of = |service, argument| {
            for source in sources.iter() {
                if let Some(number) = self.by_key.get(&(service, argument, source)) {
                    visit(*number);
                }
            }
        };
        if service.is_some() {
            if argument.is_some() {
                of(service, argument);
            }
            of(service, None);
        }
        of(None, None);
    }

    fn source_keys(&self, source: &Party<'_>, view: &SystemView) -> Keys {
        let mut keys = Keys::new();
        keys.push(Key::Wildcard);
        if source.is_dom0() {
            keys.push(Key::Dom0);
        } else {
            keys.push(Key::AnyVm);
        }
        match source.index {
            Some(index) => self.qube_keys(index, view, &mut keys),
            None => keys_push(&mut keys, self.symbol(source.word).map(Key::Qube)),
        }
        keys
    }

    fn wanted_keys(&self, call: &Call<'_>, view: &SystemView) -> Keys {
        let mut keys = Keys::new();
        keys.push(Key::Wildcard);
        if call.wanted.is_dom0() {
            keys.push(Key::Dom0);
        } else {
            keys.push(Key::AnyVm);
        }
        match call.wanted {
            Wanted::Default => keys.push(Key::Default),
            Wanted::AdminVm => {}
            Wanted::Qube(_, index) => self.qube_keys(index, view, &mut keys),
            Wanted::DispvmOf(base) => {
                for word in [&*view.get(base).name, view.uuid_word(base)] {
                    keys_push(&mut keys, self.symbol(word).map(Key::DispvmOf));
                }
                self.tag_keys(base, view, Key::DispvmTag, &mut keys);
            }
            Wanted::Dispvm => {
                keys.push(Key::Dispvm);
                match call.source.own_base(view) {
                    OwnBase::None => keys.push(Key::SomeDispvmOf),
                    OwnBase::Malformed => {
                        keys.push(Key::SomeDispvmOf);
                        keys.push(Key::SomeDispvmTag);
                    }
                    OwnBase::Is(word, base) => {
                        keys_push(&mut keys, self.symbol(word).map(Key::DispvmOf));
                        match base {
                            None => keys.push(Key::SomeDispvmTag),
                            Some(base) if view.get(base).template_for_dispvms => {
                                self.tag_keys(base, view, Key::DispvmTag, &mut keys);
                            }
                            Some(_) => {}
                        }
                    }
                }
            }
        }
        keys
    }

    fn qube_keys(&self, index: QubeIndex, view: &SystemView, keys: &mut Keys) {
        let qube = view.get(index);
        keys_push(keys, self.symbol(&qube.name).map(Key::Qube));
        keys_push(keys, self.symbol(view.uuid_word(index)).map(Key::Qube));
        keys_push(keys, self.symbol(&qube.class).map(Key::Type));
        self.tag_keys(index, view, Key::Tag, keys);
    }

    fn tag_keys(&self, index: QubeIndex, view: &SystemView, key: fn(Symbol) -> Key, to: &mut Keys) {
        for tag in &view.get(index).tags {
            keys_push(to, self.symbol(tag).map(key));
        }
    }
}

fn keys_push(keys: &mut Keys, key: Option<Key>) {
    if let Some(key) = key {
        keys.push(key);
    }
}
