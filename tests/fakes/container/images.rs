//! `image`: tests lay out the images; a pull makes one that is only to be had into one that is here.

use serde_json::{Value, json};

use crate::call::Call;
use crate::json::{Form, date, render};
use crate::model::Image;
use crate::texts::{Error, not_found};

/// A reference as the tool keeps it: with a registry, a library and a tag.
pub fn full_name(reference: &str) -> String {
    let (name, tag) = match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (reference, "latest"),
    };
    let first = name.split('/').next().unwrap_or_default();
    let has_host = name.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    match (has_host, name.contains('/')) {
        (true, _) => format!("{name}:{tag}"),
        (false, true) => format!("docker.io/{name}:{tag}"),
        (false, false) => format!("docker.io/library/{name}:{tag}"),
    }
}

/// A digest that is the same as long as the name is.
pub fn digest(reference: &str) -> String {
    let mut state: u64 = 0xcbf2_9ce4_8422_2325;
    let mut hex = String::new();
    for round in 0..4_u8 {
        for byte in full_name(reference).bytes().chain([round]) {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hex.push_str(&format!("{state:016x}"));
    }
    hex
}

pub const SIZE: u64 = 9218;

fn descriptor(image: &Image) -> Value {
    json!({
        "digest": format!("sha256:{}", digest(&image.reference)),
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "size": SIZE,
    })
}

fn shape(call: &Call, image: &Image, list: bool) -> Value {
    let version = call.store.version;
    let name = full_name(&image.reference);
    let config = serde_json::to_value(&image.config).unwrap_or_default();
    let platform = json!({"architecture": "arm64", "os": "linux", "variant": "v8"});
    let variant = json!({
        "config": {"architecture": "arm64", "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": []}},
        "digest": format!("sha256:{}", digest(&(name.clone() + "#arm64"))),
        "platform": platform,
        "size": 4_194_304,
    });
    if version.is_modern() {
        // A date that never changes.
        return json!({
            "configuration": {"creationDate": date(1_760_000_000_000_000, version),
                "descriptor": descriptor(image), "name": name},
            "id": digest(&image.reference),
            "variants": [variant],
        });
    }
    if list {
        json!({"reference": name, "fullSize": "4.2 MB", "descriptor": descriptor(image)})
    } else {
        json!({"name": name, "index": descriptor(image), "variants": [variant]})
    }
}

pub fn list(call: &mut Call) -> Result<(), Error> {
    let images: Vec<Image> = call.store.images().into_iter().map(|(_, image)| image).collect();
    let mut here: Vec<Image> = images.into_iter().filter(|image| !image.remote && !image.infrastructure).collect();
    crate::random::shuffle(&mut here);
    if call.parsed.value("format") == Some("json") {
        let shapes: Vec<Value> = here.iter().map(|image| shape(call, image, true)).collect();
        let text = render(&Value::Array(shapes), Form::Compact, call.store.version);
        call.line(&text);
        return Ok(());
    }
    if !call.parsed.has("quiet") {
        call.line("NAME  TAG  DIGEST");
    }
    for image in here {
        let full = full_name(&image.reference);
        let short = full.strip_prefix("docker.io/library/").unwrap_or(&full).to_owned();
        let (name, tag) = short.rsplit_once(':').unwrap_or((&short, "latest"));
        let line = match call.parsed.has("quiet") {
            true => short.clone(),
            false => format!("{name}  {tag}  {}...", &digest(&full)[..24]),
        };
        call.line(&line);
    }
    Ok(())
}

pub fn inspect(call: &mut Call) -> Result<(), Error> {
    let mut shapes = Vec::new();
    for name in call.parsed.arguments.clone() {
        let image = call.store.image(&name).map(|(_, image)| image).filter(|image| !image.remote);
        let image = image.ok_or_else(|| missing(call, &name))?;
        shapes.push(shape(call, &image, false));
    }
    let text = render(&Value::Array(shapes), Form::Pretty, call.store.version);
    call.line(&text);
    Ok(())
}

fn missing(call: &Call, name: &str) -> Error {
    if call.store.version.is_modern() {
        return not_found(format!("image not found: {name}")).into();
    }
    Error::Raw(vec![format!("Error: notFound: \"image {name} not found\"")], 1)
}

/// Makes an image one that is here. A container is created from none other.
pub fn fetch(call: &Call, reference: &str) -> Result<Image, Error> {
    let _guard = call.store.lock();
    match call.store.image(reference) {
        Some((file, mut image)) => {
            if image.remote {
                image.remote = false;
                call.store.write_image(&file, &image);
            }
            Ok(image)
        }
        None => Err(not_found(format!("image not found: {}", full_name(reference))).into()),
    }
}

pub fn pull(call: &mut Call) -> Result<(), Error> {
    let reference = call.parsed.arguments[0].clone();
    call.progress(&["[1/2] Fetching image [0s]", "[2/2] Unpacking image [0s]"]);
    fetch(call, &reference).map(drop)
}

pub fn tag(call: &mut Call) -> Result<(), Error> {
    let (source, target) = (call.parsed.arguments[0].clone(), call.parsed.arguments[1].clone());
    let (_, mut image) = call.store.image(&source).ok_or_else(|| missing(call, &source))?;
    let name = full_name(&target);
    image.reference = name.clone();
    let _guard = call.store.lock();
    call.store.write_image(&call.store.root.join("images").join(digest(&name) + ".json"), &image);
    call.line(&name);
    Ok(())
}

pub fn delete(call: &mut Call) -> Result<(), Error> {
    let _guard = call.store.lock();
    let all = call.store.images().into_iter().filter(|(_, image)| !image.infrastructure);
    let names: Vec<String> = match call.parsed.has("all") {
        true => all.map(|(_, image)| image.reference).collect(),
        false => call.parsed.arguments.clone(),
    };
    for name in names {
        match call.store.image(&name).filter(|(_, image)| !image.remote) {
            Some((file, mut image)) => {
                // It can still be had.
                image.remote = true;
                call.store.write_image(&file, &image);
                call.line(&full_name(&name));
            }
            None if call.parsed.has("force") => {}
            None => return Err(missing(call, &name)),
        }
    }
    Ok(())
}
