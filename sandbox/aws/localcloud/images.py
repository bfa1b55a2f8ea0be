"""Machine images and the public SSM parameters that name them: Debian's, and only those.

The ids are the sandbox's own, and the same in all regions; on AWS an id from another region is unknown.
"""

import os
from datetime import UTC, datetime
from typing import Any

DEBIAN_OWNER = "136693071363"
ROOT_VOLUME_GB = 8
PARAMETER_PREFIX = "/aws/service/debian/release"
RELEASES = {"13": "20251117-2299", "12": "20251112-2294"}
# A client that knows their ids still finds them; lists leave them out unless they ask for
# deprecated ones.
DEPRECATED = {"11": "20240717-1811"}
ARCHITECTURES = {"amd64": "x86_64", "arm64": "arm64"}


def image_id(release: str, architecture: str) -> str:
    return f"ami-0deb{release}{architecture.encode().hex()[:10]}0"


def definitions() -> list[dict[str, Any]]:
    """The images in the form in which moto reads them."""
    return [
        {
            "ami_id": image_id(release, architecture),
            "name": f"debian-{release}-{architecture}-{build}",
            "description": f"Debian {release} ({build})",
            "owner_id": DEBIAN_OWNER,
            "public": True,
            "architecture": ARCHITECTURES[architecture],
            "virtualization_type": "hvm",
            "hypervisor": "xen",
            "root_device_name": "/dev/xvda",
            "root_device_type": "ebs",
            "image_location": f"amazon/debian-{release}-{architecture}-{build}",
            "boot_mode": "uefi" if architecture == "arm64" else "uefi-preferred",
            "creation_date": datetime.strptime(build.partition("-")[0], "%Y%m%d").replace(tzinfo=UTC),
        }
        for release, build in (RELEASES | DEPRECATED).items()
        for architecture in ARCHITECTURES
    ]


def parameters() -> dict[str, str]:
    """Public parameter names and the image ids that they hold."""
    return {
        f"{PARAMETER_PREFIX}/{release}/{name}/{architecture}": image_id(release, architecture)
        for release, build in RELEASES.items()
        for architecture in ARCHITECTURES
        for name in ("latest", build)
    }


def install() -> None:
    """Replaces moto's images and parameters by these. Must run before the first EC2 backend exists."""
    from moto.core.responses import ActionResult
    from moto.ec2.models import amis
    from moto.ec2.responses.amis import AmisResponse
    from moto.ssm import models as ssm

    # moto loads its own thousands of images unless this variable is set; the path itself was read at import.
    os.environ["MOTO_AMIS_PATH"] = "replaced by images.py"
    amis.AMIS = definitions()
    init, filter_value = amis.Ami.__init__, amis.Ami.get_filter_value

    def initialise(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if self.owner_id == DEBIAN_OWNER:
            self.owner_alias = None

    def block_device_mappings(self: Any) -> list[dict[str, Any]]:
        volume = {
            "SnapshotId": self.ebs_snapshot.id,
            "VolumeSize": ROOT_VOLUME_GB,
            "DeleteOnTermination": True,
            "VolumeType": "gp3",
            "Encrypted": False,
        }
        return [{"DeviceName": self.root_device_name, "Ebs": volume}]

    def get_filter_value(self: Any, filter_name: str, method_name: str | None = None) -> Any:
        plain = {
            "root-device-type": self.root_device_type,
            "root-device-name": self.root_device_name,
            "description": self.description,
            "hypervisor": self.hypervisor,
            "image-type": self.image_type,
            "ena-support": "true",
        }
        return plain[filter_name] if filter_name in plain else filter_value(self, filter_name, method_name)

    def load_parameters(self: Any, key: str) -> None:
        if getattr(self, "debian_loaded", False) or not str(key or "").startswith(PARAMETER_PREFIX.rpartition("/")[0]):
            return
        self.debian_loaded = True
        for name, value in parameters().items():
            self[name].append(
                ssm.Parameter(
                    account_id=self.account_id,
                    name=name,
                    value=value,
                    parameter_type="String",
                    description=None,
                    allowed_pattern=None,
                    keyid=None,
                    last_modified_date=datetime.now(UTC),
                    version=1,
                    data_type="aws:ec2:image",
                )
            )

    describe_in_moto = AmisResponse.describe_images
    deprecated = {image_id(release, architecture) for release in DEPRECATED for architecture in ARCHITECTURES}

    def describe_images(self: AmisResponse) -> ActionResult:
        found = describe_in_moto(self).result["Images"]
        with_deprecated = self._get_bool_param("IncludeDeprecated", False)
        return ActionResult({"Images": [image for image in found if with_deprecated or image.id not in deprecated]})

    AmisResponse.describe_images = describe_images
    amis.Ami.__init__ = initialise
    amis.Ami.block_device_mappings = property(block_device_mappings)
    amis.Ami.get_filter_value = get_filter_value
    ssm.ParameterDict._check_loading_status = load_parameters
