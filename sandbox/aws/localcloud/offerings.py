"""Which instance types a region offers, read when first asked for; moto reads all regions' lists at every start."""

from typing import Any

from moto.utilities import utils

FOLDER = "ec2/resources/instance_type_offerings"
load_resource = utils.load_resource


def postpone() -> None:
    """Keeps moto from reading the lists. Must run before `moto.ec2` is first imported."""
    utils.load_resource = lambda path: [] if path.startswith(FOLDER) else load_resource(path)


def install() -> None:
    """Puts lists that read themselves in place of the empty ones."""
    from moto.ec2.models import instance_types

    utils.load_resource = load_resource
    for location_type in list(instance_types.INSTANCE_TYPE_OFFERINGS):
        instance_types.INSTANCE_TYPE_OFFERINGS[location_type] = Offerings(location_type)


class Offerings(dict[str, list[dict[str, Any]]]):
    """Offerings by region for one kind of location; an unknown region offers nothing."""

    def __init__(self, location_type: str):
        super().__init__()
        self._location_type = location_type

    def __missing__(self, region: str) -> list[dict[str, Any]]:
        try:
            offered = load_resource(f"{FOLDER}/{self._location_type}/{region}.json")
        except FileNotFoundError:
            offered = []
        self[region] = [offer | {"LocationType": self._location_type} for offer in offered]
        return self[region]

    def get(self, region: str, default: Any = None) -> list[dict[str, Any]]:  # type: ignore[override]
        return self[region]
