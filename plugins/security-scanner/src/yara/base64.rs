//! What a text looks like within encoded data.

/// The three forms that depend on where in a group of three bytes the text begins, without the
/// characters that depend on its neighbours.
pub(crate) fn forms(text: &[u8], alphabet: &[u8]) -> Vec<Vec<u8>> {
    let forms = (0..3).map(|before| {
        let shifted = [&[0; 2][..before], text].concat();
        let characters = encode(&shifted, alphabet);
        // The first characters hold bits of what is before, the last one bits of what is after.
        let start = [0, 2, 3][before];
        let end = shifted.len() * 8 / 6;
        characters.get(start..end).unwrap_or_default().to_vec()
    });
    forms.filter(|form| !form.is_empty()).collect()
}

fn encode(bytes: &[u8], alphabet: &[u8]) -> Vec<u8> {
    let groups = bytes.chunks(3).flat_map(|group| {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        [bits >> 18, bits >> 12 & 63, bits >> 6 & 63, bits & 63]
    });
    groups
        .filter_map(|index| alphabet.get(index as usize).copied())
        .collect()
}
