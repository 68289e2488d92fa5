//! Who holds a raw key of the store, such as an address: written as the holder's key and uid.

use orchestra_core::kind::Resource;
use orchestra_core::meta::ObjectKey;

use crate::api::{ApiError, Client};

/// Names `object` as the holder of a key.
pub(super) fn text<K: Resource>(object: &K) -> String {
    let meta = object.metadata();
    format!("{}/{} {}", meta.namespace, meta.name, meta.uid)
}

/// Whether the holder named by `text` exists, as the store has it now.
pub(super) async fn exists<K: Resource>(client: &Client, text: &[u8]) -> Result<bool, ApiError> {
    let Some((namespace, name, uid)) = parse(text) else {
        return Ok(false); // nobody that could be found
    };
    let key = ObjectKey {
        namespace: namespace.into(),
        name: name.into(),
    };
    let found = client.api::<K>().find(&key).await?;
    Ok(found.is_some_and(|found| found.metadata().uid.to_string() == uid))
}

fn parse(text: &[u8]) -> Option<(&str, &str, &str)> {
    let (key, uid) = std::str::from_utf8(text).ok()?.split_once(' ')?;
    let (namespace, name) = key.split_once('/')?;
    Some((namespace, name, uid))
}
