#!/usr/bin/python3
"""Packs a tree as an OCI image of one layer:
pack_image.py ROOT FOLDER VERSION USER_ID

Writes FOLDER/layer.tar.gz and FOLDER/tdpd-VERSION.tar, an OCI archive. The same
tree makes the same bytes; times are those of $SOURCE_DATE_EPOCH.
"""

import datetime
import gzip
import hashlib
import io
import json
import os
import platform
import sys
import tarfile

TIME = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
MEDIA = "application/vnd.oci.image."


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def pack_layer(root):
    """The tree as an uncompressed tar, its owners as they are."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w",
                      format=tarfile.GNU_FORMAT) as archive:
        for folder, folders, files in os.walk(root):
            folders.sort()
            for name in sorted(files + folders):
                path = os.path.join(folder, name)
                member = archive.gettarinfo(path, os.path.relpath(path, root))
                member.uname = member.gname = ""
                member.mtime = TIME
                if member.isreg():
                    with open(path, "rb") as file:
                        archive.addfile(member, file)
                else:
                    archive.addfile(member)
    return buffer.getvalue()


def descriptor(kind, data, **more):
    return {"mediaType": MEDIA + kind, "digest": digest(data),
            "size": len(data), **more}


def as_json(value):
    return json.dumps(value, sort_keys=True, indent=1).encode()


def describe(layer, packed, version, user):
    """The image's configuration, and the manifest that names it."""
    architecture = ARCHITECTURES[platform.machine()]
    config = as_json({
        "architecture": architecture,
        "os": "linux",
        "created": datetime.datetime.fromtimestamp(
            TIME, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "config": {
            "User": f"{user}:{user}",
            "Entrypoint": ["/usr/bin/tdpd"],
            "Env": ["PATH=/usr/bin"],
            "WorkingDir": "/",
            "StopSignal": "SIGTERM",
            "Labels": {"org.opencontainers.image.title": "tdpd",
                       "org.opencontainers.image.version": version},
        },
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
    })
    manifest = as_json({
        "schemaVersion": 2,
        "mediaType": MEDIA + "manifest.v1+json",
        "config": descriptor("config.v1+json", config),
        "layers": [descriptor("layer.v1.tar+gzip", packed)],
    })
    index = as_json({
        "schemaVersion": 2,
        "manifests": [descriptor(
            "manifest.v1+json", manifest,
            platform={"architecture": architecture, "os": "linux"},
            annotations={"org.opencontainers.image.ref.name": version})],
    })
    return config, manifest, index


def main(root, folder, version, user):
    layer = pack_layer(root)
    packed = gzip.compress(layer, mtime=TIME)
    with open(os.path.join(folder, "layer.tar.gz"), "wb") as file:
        file.write(packed)
    config, manifest, index = describe(layer, packed, version, user)
    files = {"oci-layout": as_json({"imageLayoutVersion": "1.0.0"}),
             "index.json": index}
    for blob in (config, manifest, packed):
        files["blobs/sha256/" + digest(blob).removeprefix("sha256:")] = blob
    image = os.path.join(folder, f"tdpd-{version}.tar")
    with tarfile.open(image, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = len(data), TIME, 0o644
            archive.addfile(member, io.BytesIO(data))
    print(image)


if __name__ == "__main__":
    main(*sys.argv[1:])
