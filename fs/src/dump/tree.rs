//! The key tree: whole, by node, by inode; and the node table.

use std::collections::HashSet;
use std::io::Write;

use crate::error::Error;
use crate::format::key::{Key, Kind};
use crate::format::node::Node;
use crate::fsck::walk::fetch;
use crate::meta::load::load_page;
use crate::meta::radix::Looked;
use crate::meta::volume::Volume;
use crate::types::{Ino, NodeId};

use super::{Result, show};

/// Every node in the order of its keys, indented by depth. A node that cannot be read is told, and the walk goes on.
pub(super) fn tree(volume: &Volume, out: &mut impl Write) -> Result<()> {
    let mut shown = HashSet::new();
    let mut stack = vec![(NodeId::ROOT, 0usize, None)];
    while let Some((id, depth, level)) = stack.pop() {
        let indent = "  ".repeat(depth);
        if !shown.insert(id) {
            writeln!(out, "{indent}node {id}: reached for the second time")?;
            continue;
        }
        let node = match fetch(volume, id) {
            Ok(Some(node)) if level.is_none_or(|level: u8| level == node.level()) => node,
            Ok(Some(node)) => {
                writeln!(out, "{indent}node {id}: level {} where it should not be", node.level())?;
                continue;
            }
            Ok(None) => {
                writeln!(out, "{indent}node {id}: not in the node table")?;
                continue;
            }
            Err(e) => {
                writeln!(out, "{indent}node {id}: {e}")?;
                continue;
            }
        };
        print_node(id, &node, &indent, out)?;
        let below = node.level().checked_sub(1);
        stack.extend(node.children().iter().rev().map(|child| (*child, depth + 1, below)));
    }
    Ok(())
}

/// One node.
pub(super) fn node(volume: &Volume, id: NodeId, out: &mut impl Write) -> Result<()> {
    let Some(node) = fetch(volume, id)? else {
        return Err(Error::Refused(format!("there is no metadata node {id}")).into());
    };
    let looked = volume.state.read().nodes.slot(0, id.0);
    if let Looked::Found(at) = looked {
        writeln!(out, "{}", show::block_ref(at))?;
    }
    print_node(id, &node, "", out)
}

fn print_node(id: NodeId, node: &Node, indent: &str, out: &mut impl Write) -> Result<()> {
    writeln!(out, "{indent}node {id}: level {} items {} bytes {}", node.level(), node.len(), node.used())?;
    for (key, value) in node.keys().iter().zip(node.values()) {
        writeln!(out, "{indent}  {}: {}", show::key(key), show::value(value))?;
    }
    for (key, child) in node.keys().iter().zip(node.children()) {
        writeln!(out, "{indent}  from {}: node {child}", show::key(key))?;
    }
    Ok(())
}

/// Every item of an inode.
pub(super) fn inode(volume: &Volume, ino: Ino, out: &mut impl Write) -> Result<()> {
    let (from, to) = (Key::inode(ino), Key { offset: u64::MAX, snapshot: u32::MAX, ..Key::new(ino, Kind::Orphan, 0) });
    let mut next = Some(from);
    let mut found = false;
    // In pieces, since a view may be run again and an inode may be large.
    while let Some(start) = next.take() {
        let mut items = Vec::new();
        volume.view(|view| {
            items.clear();
            view.scan(&start, &to, &mut |key, value| {
                items.push((*key, value.clone()));
                if items.len() < 1024 { std::ops::ControlFlow::Continue(()) } else { std::ops::ControlFlow::Break(()) }
            })
        })?;
        for (key, value) in &items {
            writeln!(out, "{}: {}", show::key(key), show::value(value))?;
        }
        found |= !items.is_empty();
        next = items.last().filter(|_| items.len() == 1024).map(|(key, _)| after(key));
    }
    if found { Ok(()) } else { Err(Error::Refused(format!("there is no inode {ino}")).into()) }
}

fn after(key: &Key) -> Key {
    match key.snapshot.checked_add(1) {
        Some(snapshot) => Key { snapshot, ..*key },
        None => Key { offset: key.offset.saturating_add(1), snapshot: 0, ..*key },
    }
}

/// Where every node stands.
pub(super) fn nodes(volume: &Volume, out: &mut impl Write) -> Result<()> {
    let end = volume.state.read().tree.next_node();
    for id in NodeId::ROOT.0..end.0 {
        let at = loop {
            let looked = volume.state.read().nodes.slot(0, id);
            match looked {
                Looked::Found(at) => break at,
                Looked::Missing(page, at) => load_page(&volume.state, &volume.log, page, at)?,
            }
        };
        if !at.is_absent() {
            writeln!(out, "node {id}: {}", show::block_ref(at))?;
        }
    }
    Ok(())
}
