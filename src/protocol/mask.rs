//! The mask of a client's payload (RFC 6455, 5.3).

/// XORs `payload` with `mask`, whose first byte meets the first byte of `payload`.
///
/// For a payload in pieces, rotate the mask by the length of what went before: see [`rotated`].
// Always: a call of it costs a short message more than the masking does.
#[inline(always)]
pub fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    let word = u32::from_ne_bytes(mask);
    let key = u64::from(word) << 32 | u64::from(word);
    // Eight bytes at a time in a plain loop is what the compiler turns into vector code.
    let (chunks, tail) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ key).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(key.to_ne_bytes()) {
        *byte ^= key;
    }
}

/// The mask as it meets the byte that stands `offset` bytes into the payload.
#[inline]
#[must_use]
pub fn rotated(mut mask: [u8; 4], offset: usize) -> [u8; 4] {
    mask.rotate_left(offset % 4);
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(payload: &mut [u8], mask: [u8; 4]) {
        for (i, byte) in payload.iter_mut().enumerate() {
            *byte ^= mask[i % 4];
        }
    }

    #[test]
    fn every_alignment_and_length() {
        let mask = [0x12, 0x34, 0x56, 0x78];
        for start in 0..16 {
            for len in 0..80 {
                let mut ours: Vec<u8> = (0..start + len).map(|i| i as u8).collect();
                let mut other = ours.clone();
                apply_mask(&mut ours[start..], mask);
                naive(&mut other[start..], mask);
                assert_eq!(ours, other, "start {start} len {len}");
            }
        }
    }

    #[test]
    fn two_pieces_at_every_phase() {
        let mask = [0xff, 0x01, 0x80, 0x7e];
        for cut in 0..=40 {
            let mut ours = [0x5au8; 40];
            let mut other = ours;
            let (a, b) = ours.split_at_mut(cut);
            apply_mask(a, mask);
            apply_mask(b, rotated(mask, cut));
            naive(&mut other, mask);
            assert_eq!(ours, other, "cut {cut}");
        }
    }
}
