"""The size limits of Parameter Store, which moto does not know."""

from typing import Any

from moto.ssm.models import SimpleSystemManagerBackend

from .errors import Refused

MAXIMUM_BYTES = {"Standard": 4096, "Advanced": 8192, "Intelligent-Tiering": 8192}


def install() -> None:
    """Puts the limit before moto's PutParameter."""
    put_in_moto = SimpleSystemManagerBackend.put_parameter

    def put_parameter(self: Any, name: str, description: str, value: str, *others: Any, **options: Any) -> Any:
        tier = options.get("tier") or "Standard"
        limit = MAXIMUM_BYTES.get(tier, MAXIMUM_BYTES["Standard"])
        if len((value or "").encode()) > limit:
            message = f"{tier} tier parameters support a maximum parameter value of {limit} characters."
            raise Refused("ValidationException", message)
        return put_in_moto(self, name, description, value, *others, **options)

    SimpleSystemManagerBackend.put_parameter = put_parameter
