"""Key pairs deleted by id as well as by name."""

from moto.core.responses import ActionResult
from moto.ec2.responses.key_pairs import KeyPairs


def install() -> None:
    """Replaces DeleteKeyPair."""

    def delete_key_pair(self: KeyPairs) -> ActionResult:
        name, pair_id = self._get_param("KeyName"), self._get_param("KeyPairId")
        self.error_on_dryrun()
        pairs = self.ec2_backend.key_pairs
        if name is None:
            name = next((pair.key_name for pair in pairs.values() if pair.id == pair_id), None)
        pair = pairs.pop(name, None)
        return ActionResult({"Return": True, "KeyPairId": pair.id if pair else None})

    KeyPairs.delete_key_pair = delete_key_pair
