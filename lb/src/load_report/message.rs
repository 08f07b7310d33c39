//! The binary form: the protobuf message `OrcaLoadReport`.
//!
//! Why by hand: the message has nine fields and one kind of entry. A protobuf library would be more code than this.
//! Invariants: each step takes at least one byte, so the walk ends. Fields that lb does not know are skipped by their
//! wire type, as protobuf demands. A known field with another wire type is a malformed message.

use super::Malformed;
use super::draft::{Draft, Map, Scalar};

/// The bytes that were not read.
struct Walk<'b>(&'b [u8]);

/// The value of one field.
enum Value<'b> {
    Varint(u64),
    Double(f64),
    Bytes(&'b [u8]),
    /// 32 bits, which the message does not have.
    Other,
}

pub(super) fn read(message: &[u8], draft: &mut Draft<'_>) -> Result<(), Malformed> {
    let mut walk = Walk(message);
    while let Some((number, value)) = walk.field()? {
        match (number, value) {
            (1, Value::Double(value)) => draft.scalar(Scalar::Cpu, value)?,
            (2, Value::Double(value)) => draft.scalar(Scalar::Memory, value)?,
            (3, Value::Varint(value)) => draft.scalar(Scalar::Rps, value as f64)?,
            (4, Value::Bytes(bytes)) => entry(bytes, Map::RequestCost, draft)?,
            (5, Value::Bytes(bytes)) => entry(bytes, Map::Utilization, draft)?,
            (6, Value::Double(value)) => draft.scalar(Scalar::RpsFractional, value)?,
            (7, Value::Double(value)) => draft.scalar(Scalar::Eps, value)?,
            (8, Value::Bytes(bytes)) => entry(bytes, Map::Named, draft)?,
            (9, Value::Double(value)) => draft.scalar(Scalar::Application, value)?,
            (1..=9, _) => return Err(Malformed::Message),
            _ => {}
        }
    }
    Ok(())
}

/// An entry of a map: a message of key (1) and value (2). Each may be left out, and is then empty or 0.
fn entry(bytes: &[u8], map: Map, draft: &mut Draft<'_>) -> Result<(), Malformed> {
    let (mut walk, mut key, mut number): (_, &[u8], _) = (Walk(bytes), b"", 0.0);
    while let Some((field, value)) = walk.field()? {
        match (field, value) {
            (1, Value::Bytes(bytes)) => key = bytes,
            (2, Value::Double(value)) => number = value,
            (1 | 2, _) => return Err(Malformed::Message),
            _ => {}
        }
    }
    match draft.place(map, key) {
        Some(place) => draft.named(place, number),
        None => Ok(()),
    }
}

// === impl Walk ===

impl<'b> Walk<'b> {
    /// The next field, if there is one.
    fn field(&mut self) -> Result<Option<(u64, Value<'b>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Double(f64::from_le_bytes(self.take()?)),
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| Malformed::Message)?;
                let (bytes, rest) = self.0.split_at_checked(len).ok_or(Malformed::Message)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            5 => {
                self.take::<4>()?;
                Value::Other
            }
            // Groups, which proto3 does not have, and types that do not exist.
            _ => return Err(Malformed::Message),
        };
        match tag >> 3 {
            0 => Err(Malformed::Message),
            number => Ok(Some((number, value))),
        }
    }

    /// A number of at most 10 bytes. Bits above the 64th are dropped, as in protobuf.
    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for place in 0..10 {
            let [byte] = self.take()?;
            number |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed::Message)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed::Message)?;
        self.0 = rest;
        Ok(*taken)
    }
}
