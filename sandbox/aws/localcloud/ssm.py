"""Parameter Store refusals that moto does not make."""

from typing import Any

from moto.ssm.models import SimpleSystemManagerBackend

from .errors import Refused

put_in_moto = SimpleSystemManagerBackend.put_parameter
MAXIMUM_BYTES = {"Standard": 4096, "Advanced": 8192, "Intelligent-Tiering": 8192}


def install() -> None:
    """Replaces PutParameter."""

    def put_parameter(
        self: Any,
        name: str,
        description: str,
        value: str,
        parameter_type: str,
        allowed_pattern: str,
        keyid: str,
        overwrite: bool,
        tags: list[dict[str, str]],
        data_type: str,
        tier: str | None,
        policies: str | None,
    ) -> Any:
        if tags and overwrite:
            raise Refused(
                "ValidationException",
                "Invalid request: tags and overwrite can't be used together. To create a parameter with tags, please "
                "remove overwrite flag. To update tags for an existing parameter, please use AddTagsToResource or "
                "RemoveTagsFromResource.",
            )
        limit = MAXIMUM_BYTES.get(tier or "Standard", 4096)
        if len((value or "").encode()) > limit:
            raise Refused(
                "ValidationException",
                f"{tier or 'Standard'} tier parameters support a maximum parameter value of {limit} characters.",
            )
        return put_in_moto(
            self,
            name,
            description,
            value,
            parameter_type,
            allowed_pattern,
            keyid,
            overwrite,
            tags,
            data_type,
            tier=tier,
            policies=policies,
        )

    SimpleSystemManagerBackend.put_parameter = put_parameter
