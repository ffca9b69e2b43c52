//! Signals of the daemon as values.

use bulkhead_api::call::Ask;
use bulkhead_api::event::{Event, Topic};
use bulkhead_api::qube::QubeRow;
use bulkhead_api::{ApiError, ErrorKind, from_json};
use futures_util::StreamExt;
use zbus::message::Type;
use zbus::{Message, MessageStream};

use crate::client::Client;
use crate::failure::Failure;

/// What came.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// Something changed.
    Event(Box<Event>),
    /// This many changes were missed: everything must be read again.
    Lost,
}

/// The signals of a connection, from the moment of [`Events::subscribe`].
#[derive(Debug)]
pub(crate) struct Events(MessageStream);

impl Events {
    /// Asks for signals.
    pub(crate) async fn subscribe(client: &Client, topics: &[Topic]) -> Result<Self, Failure> {
        let stream = MessageStream::from(&client.connection);
        let names: Vec<&str> = topics.iter().map(|topic| topic.as_str()).collect();
        client.proxy.subscribe(&names).await?;
        Ok(Self(stream))
    }

    /// The next one. A signal that this version does not know is passed over.
    pub(crate) async fn next(&mut self) -> Result<Incoming, Failure> {
        loop {
            let message = match self.0.next().await {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Err(ApiError::from(error).into()),
                None => return Err(hung_up()),
            };
            if let Some(incoming) = decode(&message)? {
                return Ok(incoming);
            }
        }
    }
}

fn hung_up() -> Failure {
    ApiError::new(
        ErrorKind::Unreachable,
        "bulkheadd has closed the connection",
    )
    .hint("It was stopped or restarted; run the command again.")
    .into()
}

fn decode(message: &Message) -> Result<Option<Incoming>, ApiError> {
    if message.message_type() != Type::Signal {
        return Ok(None);
    }
    let header = message.header();
    let body = message.body();
    let Some(member) = header.member() else {
        return Ok(None);
    };
    let event = match member.as_str() {
        "QubeChanged" => {
            let (_, _, row): (&str, &str, QubeRow) = body.deserialize()?;
            Event::QubeChanged(row)
        }
        "QubeRemoved" => Event::QubeRemoved {
            name: body.deserialize()?,
        },
        "AskAdded" => {
            let (_, json): (u64, &str) = body.deserialize()?;
            Event::AskAdded(from_json::<Ask>(json)?)
        }
        "AskRemoved" => {
            let (id, outcome) = body.deserialize()?;
            Event::AskRemoved { id, outcome }
        }
        "ApplyStarted" => {
            let (apply, who, steps) = body.deserialize()?;
            Event::ApplyStarted { apply, who, steps }
        }
        "StepStarted" => {
            let (apply, step, text) = body.deserialize()?;
            Event::StepStarted { apply, step, text }
        }
        "StepProgress" => {
            let (apply, step, text) = body.deserialize()?;
            Event::StepProgress { apply, step, text }
        }
        "StepFinished" => {
            let (apply, step, error) = body.deserialize()?;
            Event::StepFinished { apply, step, error }
        }
        "Undoing" => {
            let (apply, because) = body.deserialize()?;
            Event::Undoing { apply, because }
        }
        "StepUndone" => {
            let (apply, step, error) = body.deserialize()?;
            Event::StepUndone { apply, step, error }
        }
        "AuditRecorded" => Event::AuditRecorded(from_json(body.deserialize()?)?),
        "SignalsLost" => return Ok(Some(Incoming::Lost)),
        _ => return Ok(None),
    };
    Ok(Some(Incoming::Event(Box::new(event))))
}
