//! As much of the protocol-buffer wire format as ONNX needs: a writer of fields and a reader of them.

/// Appends fields to a message.
#[derive(Debug, Default)]
pub struct Message(pub Vec<u8>);

impl Message {
    pub fn int(mut self, field: u32, value: u64) -> Self {
        self.varint(u64::from(field) << 3);
        self.varint(value);
        self
    }

    pub fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    pub fn text(self, field: u32, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    pub fn message(self, field: u32, value: Message) -> Self {
        self.bytes(field, &value.0)
    }

    /// A number without a field of its own, as in a packed list.
    pub fn plain(mut self, value: u64) -> Self {
        self.varint(value);
        self
    }

    fn varint(&mut self, mut v: u64) {
        while v >= 0x80 {
            self.0.push(v as u8 | 0x80);
            v >>= 7;
        }
        self.0.push(v as u8);
    }
}

/// The value of a field; groups and fixed widths carry nothing that is read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    Int(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// Fields of a message in their order; `None` if the bytes are not a message.
pub fn fields(mut bytes: &[u8]) -> Option<Vec<(u32, Field<'_>)>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = read_varint(&mut bytes)?;
        let value = match tag & 7 {
            0 => Field::Int(read_varint(&mut bytes)?),
            2 => {
                let len = usize::try_from(read_varint(&mut bytes)?).ok()?;
                let (value, rest) = bytes.split_at_checked(len)?;
                bytes = rest;
                Field::Bytes(value)
            }
            width @ (1 | 5) => {
                bytes = bytes.get(if width == 1 { 8 } else { 4 }..)?;
                Field::Fixed
            }
            _ => return None,
        };
        found.push((u32::try_from(tag >> 3).ok()?, value));
    }
    Some(found)
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_survive_a_round_trip_and_rubbish_is_refused() {
        let m = Message::default().int(1, 300).text(100, "x").message(2, Message::default().int(3, u64::MAX));
        let inner = Message::default().int(3, u64::MAX).0;
        let expected = vec![(1, Field::Int(300)), (100, Field::Bytes(b"x")), (2, Field::Bytes(&inner))];
        assert_eq!(fields(&m.0), Some(expected));
        assert_eq!(fields(&m.0[..m.0.len() - 1]), None);
        assert_eq!(fields(&[0xff; 11]), None);
        assert_eq!(fields(&[7]), None);
    }
}
