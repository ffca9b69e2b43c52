//! Icons out of a stream.

use super::{Icon, IconError, IconSize, LINE_MAX};
use crate::gui::WindowId;

/// What comes next.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Window,
    Size(WindowId),
    Pixels(WindowId, IconSize),
    Failed,
}

/// Takes icons off a stream. Holds what has come of one, and no more.
#[derive(Debug)]
pub struct Reader {
    stage: Stage,
    /// What has come of a line or of the pixels.
    kept: Vec<u8>,
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

impl Reader {
    /// Of a stream from which nothing was taken.
    #[must_use]
    pub fn new() -> Self {
        Self {
            stage: Stage::Window,
            kept: Vec::new(),
        }
    }

    /// Whether all that came was whole icons.
    #[must_use]
    pub fn is_between_icons(&self) -> bool {
        matches!(self.stage, Stage::Window) && self.kept.is_empty()
    }

    /// The next icon and its window, once it is whole. What is taken of `input` is gone from it; all of
    /// it where there is none.
    ///
    /// # Errors
    /// [`IconError`], after which there is nothing more.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<(WindowId, Icon)>, IconError> {
        let next = self.try_next(input);
        if next.is_err() {
            self.stage = Stage::Failed;
            self.kept = Vec::new();
        }
        next
    }

    fn try_next(&mut self, input: &mut &[u8]) -> Result<Option<(WindowId, Icon)>, IconError> {
        loop {
            match self.stage {
                Stage::Window => {
                    let Some(line) = self.line(input)? else {
                        return Ok(None);
                    };
                    let window = number(&line).ok_or(IconError::Window)?;
                    self.stage = Stage::Size(WindowId(window));
                }
                Stage::Size(window) => {
                    let Some(line) = self.line(input)? else {
                        return Ok(None);
                    };
                    let (width, height) = pair(&line).ok_or(IconError::Size)?;
                    let size = IconSize::new(width, height);
                    let size = size.ok_or(IconError::Sides(width, height))?;
                    self.stage = Stage::Pixels(window, size);
                }
                Stage::Pixels(window, size) => {
                    let missing = size.bytes().saturating_sub(self.kept.len());
                    let (part, rest) = input.split_at(input.len().min(missing));
                    self.kept.extend_from_slice(part);
                    *input = rest;
                    if part.len() < missing {
                        return Ok(None);
                    }
                    self.stage = Stage::Window;
                    let pixels = std::mem::take(&mut self.kept);
                    return Ok(Icon::new(size, pixels).map(|icon| (window, icon)));
                }
                Stage::Failed => return Err(IconError::Failed),
            }
        }
    }

    /// The next line without its end, once it is whole.
    fn line(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, IconError> {
        let end = input.iter().position(|byte| *byte == b'\n');
        let (part, rest) = input.split_at(end.unwrap_or(input.len()));
        if self.kept.len() + part.len() > LINE_MAX {
            return Err(IconError::LongLine);
        }
        self.kept.extend_from_slice(part);
        *input = rest.get(1..).unwrap_or_default();
        Ok(end.map(|_| std::mem::take(&mut self.kept)))
    }
}

/// A decimal number without a sign.
fn number(text: &[u8]) -> Option<u32> {
    let is_decimal = text.iter().all(u8::is_ascii_digit);
    let text = str::from_utf8(text).ok().filter(|_| is_decimal)?;
    text.parse().ok()
}

fn pair(line: &[u8]) -> Option<(u32, u32)> {
    let space = line.iter().position(|byte| *byte == b' ')?;
    let (first, second) = line.split_at(space);
    Some((number(first)?, number(second.get(1..)?)?))
}
