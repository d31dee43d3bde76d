//! What an engine has of one run. It is found by the ids that were recorded, and without them by its labels: a name
//! alone proves nothing, since another state directory, or anybody, may have given it to something of their own.

use crate::base::id::RunId;
use crate::process::no_cancel;
use crate::runtime::{Error, Kind, ObjectKind, Result, Runtime};
use crate::wire::record::Record;

/// Whose objects, and what is known of them.
#[derive(Debug, Clone)]
pub(crate) struct Objects {
    run: RunId,
    /// The name of the state directory, if it can be read.
    instance: Option<String>,
    container: Option<String>,
    network: Option<String>,
}

impl Objects {
    /// Those of the run of a record.
    pub(crate) fn of(record: &Record, instance: Option<String>) -> Objects {
        let (container, network) = (record.container_id.clone(), record.network_id.clone());
        Objects { run: record.id.clone(), instance, container, network }
    }

    /// How its objects are called.
    pub(crate) fn name(&self) -> String {
        self.run.object_name()
    }

    /// What the engine is to be told to mean one kind of them: none if there is none.
    pub(crate) fn find(&self, runtime: &dyn Runtime, kind: ObjectKind) -> Result<Vec<String>> {
        let known = match kind {
            ObjectKind::Container => &self.container,
            ObjectKind::Network => &self.network,
        };
        if let Some(id) = known {
            return Ok(vec![id.clone()]);
        }
        // What it makes has no other name, and is nobody else's.
        if runtime.kind() == Kind::Native {
            return Ok(vec![self.name()]);
        }
        let Some(instance) = &self.instance else {
            let complaint = "the name of this state directory is lost, by which they are known".into();
            return Err(Error::Refused { call: format!("looking for the objects of run {}", self.run), complaint });
        };
        let is_its_own = |run: &Option<RunId>| run.as_ref() == Some(&self.run);
        let deadline = runtime.limits().query();
        match kind {
            ObjectKind::Container => {
                // An engine that says nothing where it is asked for something by name makes no sense, and is no answer.
                let named = runtime.inspect(&[self.name()], deadline, &no_cancel())?;
                let found: Vec<String> =
                    named.into_iter().filter(|facts| is_its_own(&facts.run)).map(|facts| facts.id).collect();
                if found.is_empty() {
                    return Ok(found);
                }
                let ours = runtime.containers(instance, deadline)?;
                Ok(found.into_iter().filter(|id| ours.iter().any(|facts| facts.id == *id)).collect())
            }
            ObjectKind::Network => {
                let all = runtime.list(instance, deadline)?.into_iter();
                let own = all.filter(|object| object.kind == kind && is_its_own(&object.run));
                Ok(own.map(|object| object.id).collect())
            }
        }
    }
}
