//! The Merkle tree over a chain's records (RFC 6962, section 2.1; leaves are the records' own hashes): its root in a
//! signed checkpoint lets anyone check a few records out of a million against a few hundred bytes.
//!
//! The hash chain stays the trail's backbone; the tree only makes proofs short.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A SHA-256.
pub type Hash = [u8; 32];

/// Hash of one leaf: tagged, so that a leaf can never pass for an inner node.
#[must_use]
pub fn leaf(data: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(data).finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// Reads 64 small hex digits; `None` for any other text.
#[must_use]
pub fn hash_from_hex(text: &str) -> Option<Hash> {
    let mut hash = Hash::default();
    hex::decode_to_slice(text, &mut hash).ok()?;
    (hex::encode(hash) == text).then_some(hash)
}

/// The growing edge of a tree: enough to append and to know the root, a few hashes whatever the size.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Frontier {
    size: u64,
    /// Roots of the full subtrees, the largest first: one for each bit of `size`.
    peaks: Vec<Hash>,
}

/// A frontier as it stands in a file.
#[derive(Clone, Serialize, Deserialize)]
struct Written {
    size: u64,
    peaks: Vec<String>,
}

impl From<Frontier> for Written {
    fn from(frontier: Frontier) -> Self {
        Self { size: frontier.size, peaks: frontier.peaks.iter().map(hex::encode).collect() }
    }
}

impl TryFrom<Written> for Frontier {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let peaks: Option<Vec<Hash>> = written.peaks.iter().map(|peak| hash_from_hex(peak)).collect();
        let peaks = peaks.ok_or("a peak is no hash")?;
        if u32::try_from(peaks.len()) != Ok(written.size.count_ones()) {
            return Err("the peaks do not belong to the size");
        }
        Ok(Self { size: written.size, peaks })
    }
}

impl Frontier {
    /// Leaves so far.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf with this content.
    pub fn append(&mut self, data: &[u8]) {
        let mut hash = leaf(data);
        for _ in 0..self.size.trailing_ones() {
            let left = self.peaks.pop().expect("a peak for each bit of the size");
            hash = node(&left, &hash);
        }
        self.peaks.push(hash);
        self.size = self.size.saturating_add(1);
    }

    /// The tree's root; of an empty tree the hash of nothing.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return Sha256::digest([]).into() };
        peaks.fold(*last, |right, left| node(left, &right))
    }
}

/// Where a subtree of more than one leaf is split: the largest power of two below its size.
fn middle(range: &Range<u64>) -> u64 {
    let last = range.end.saturating_sub(range.start).saturating_sub(1);
    let half = 1_u64.checked_shl(last.checked_ilog2().unwrap_or(0)).unwrap_or(0);
    range.start.saturating_add(half)
}

fn holds_any<T>(range: &Range<u64>, wanted: &BTreeMap<u64, T>) -> bool {
    range.start < range.end && wanted.range(range.clone()).next().is_some()
}

/// The hashes that, together with the leaves at these places, give the root: one for each largest subtree that holds
/// none of them, from left to right. `leaves` are leaf hashes.
#[must_use]
pub fn prove(leaves: &[Hash], wanted: &[u64]) -> Vec<Hash> {
    let wanted: BTreeMap<u64, ()> = wanted.iter().map(|place| (*place, ())).collect();
    let mut path = Vec::new();
    let size = u64::try_from(leaves.len()).unwrap_or(u64::MAX);
    collect(leaves, 0..size, &wanted, &mut path);
    path
}

fn collect(leaves: &[Hash], range: Range<u64>, wanted: &BTreeMap<u64, ()>, path: &mut Vec<Hash>) {
    if range.is_empty() {
        return;
    }
    if !holds_any(&range, wanted) {
        path.push(subtree(leaves, range));
    } else if range.end.saturating_sub(range.start) > 1 {
        let middle = middle(&range);
        collect(leaves, range.start..middle, wanted, path);
        collect(leaves, middle..range.end, wanted, path);
    }
}

fn subtree(leaves: &[Hash], range: Range<u64>) -> Hash {
    let at = |place: u64| usize::try_from(place).unwrap_or(usize::MAX);
    let mut peaks: Vec<Hash> = Vec::new();
    for (count, hash) in (0_u64..).zip(&leaves[at(range.start)..at(range.end)]) {
        let mut hash = *hash;
        for _ in 0..count.trailing_ones() {
            let left = peaks.pop().expect("a peak for each bit of the count");
            hash = node(&left, &hash);
        }
        peaks.push(hash);
    }
    let mut peaks = peaks.into_iter().rev();
    let last = peaks.next().expect("a subtree has leaves");
    peaks.fold(last, |right, left| node(&left, &right))
}

/// The root of a tree of `size` leaves in which these leaves stand at these places; `None` when the path does not fit.
/// `known` are leaf hashes by place.
#[must_use]
pub fn root_from(size: u64, known: &BTreeMap<u64, Hash>, path: &[Hash]) -> Option<Hash> {
    let (first, last) = (known.keys().next()?, known.keys().next_back()?);
    if *last >= size || *first > *last {
        return None;
    }
    let mut path = path.iter();
    let root = rebuild(0..size, known, &mut path)?;
    path.next().is_none().then_some(root)
}

fn rebuild<'a>(
    range: Range<u64>,
    known: &BTreeMap<u64, Hash>,
    path: &mut impl Iterator<Item = &'a Hash>,
) -> Option<Hash> {
    if !holds_any(&range, known) {
        return path.next().copied();
    }
    if range.end.saturating_sub(range.start) == 1 {
        return known.get(&range.start).copied();
    }
    let middle = middle(&range);
    let left = rebuild(range.start..middle, known, path)?;
    let right = rebuild(middle..range.end, known, path)?;
    Some(node(&left, &right))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Inputs and roots of the Certificate Transparency reference implementation's own tests.
    const VECTORS: [(&str, &str); 8] = [
        ("", "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
        ("00", "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
        ("10", "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
        ("2021", "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"),
        ("3031", "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"),
        ("40414243", "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef"),
        ("5051525354555657", "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"),
        ("606162636465666768696a6b6c6d6e6f", "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
    ];

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|n| leaf(&n.to_be_bytes())).collect()
    }

    fn known(leaves: &[Hash], places: &[u64]) -> BTreeMap<u64, Hash> {
        places.iter().map(|place| (*place, leaves[usize::try_from(*place).unwrap()])).collect()
    }

    #[test]
    fn roots_are_those_of_certificate_transparency() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hex::encode(Frontier::default().root()), empty);
        let mut frontier = Frontier::default();
        for (data, root) in VECTORS {
            frontier.append(&hex::decode(data).unwrap());
            assert_eq!(hex::encode(frontier.root()), root, "{} leaves", frontier.size());
        }
    }

    #[test]
    fn a_frontier_reads_back_and_one_that_does_not_fit_its_size_is_refused() {
        let mut frontier = Frontier::default();
        for n in 0_u64..11 {
            frontier.append(&n.to_be_bytes());
        }
        let text = serde_json::to_string(&frontier).unwrap();
        assert_eq!(serde_json::from_str::<Frontier>(&text).unwrap(), frontier);
        assert!(serde_json::from_str::<Frontier>(&text.replace("\"size\":11", "\"size\":12")).is_err());
    }

    proptest! {
        #[test]
        fn a_proof_of_any_leaves_gives_the_root_and_no_other_leaf_does(
            size in 1_u64..70, picks in prop::collection::vec(any::<prop::sample::Index>(), 1..6),
        ) {
            let leaves = leaves(size);
            let mut frontier = Frontier::default();
            (0..size).for_each(|n| frontier.append(&n.to_be_bytes()));
            let places: Vec<u64> = picks.iter().map(|pick| u64::try_from(pick.index(leaves.len())).unwrap()).collect();
            let path = prove(&leaves, &places);
            let mut known = known(&leaves, &places);
            prop_assert_eq!(root_from(size, &known, &path), Some(frontier.root()));
            known.insert(places[0], leaf(b"forged"));
            prop_assert_ne!(root_from(size, &known, &path), Some(frontier.root()));
        }
    }

    #[test]
    fn a_path_that_is_too_long_or_too_short_or_of_no_leaf_gives_nothing() {
        let leaves = leaves(9);
        let path = prove(&leaves, &[3]);
        let known = known(&leaves, &[3]);
        assert!(root_from(9, &known, &path).is_some());
        assert_eq!(root_from(9, &known, &path[1..]), None);
        assert_eq!(root_from(9, &known, &[path.clone(), path.clone()].concat()), None);
        assert_eq!(root_from(9, &BTreeMap::new(), &path), None);
        assert_eq!(root_from(3, &known, &path), None);
        assert_eq!(root_from(0, &BTreeMap::new(), &[]), None);
    }

    #[test]
    fn a_few_neighbours_out_of_many_share_their_path() {
        let leaves = leaves(100_000);
        let path = prove(&leaves, &[50_000, 50_001, 50_003, 50_006]);
        assert!(path.len() < 24, "{} hashes", path.len());
    }
}
