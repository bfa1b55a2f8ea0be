"""Another instance type, and a larger disk."""

import time

from harness import CloudTest


class Type(CloudTest):
    def change(self, instance: str, kind: str) -> None:
        self.ec2.modify_instance_attribute(InstanceId=instance, InstanceType={"Value": kind})

    def stopped(self) -> str:
        instance = self.launched()
        self.ec2.stop_instances(InstanceIds=[instance])
        self.acknowledge(instance, "stopped")
        return instance

    def test_only_a_stopped_instance_gets_another_type(self) -> None:
        instance = self.launched()
        self.refused("IncorrectInstanceState", self.change, instance, "t3.small")
        self.ec2.stop_instances(InstanceIds=[instance])
        self.refused("IncorrectInstanceState", self.change, instance, "t3.small")
        self.acknowledge(instance, "stopped")
        self.change(instance, "t3.small")
        self.assertEqual(self.described(instance)["InstanceType"], "t3.small")
        self.assertEqual(self.seen(instance)["type"], "t3.small")
        self.ec2.start_instances(InstanceIds=[instance])
        self.refused("IncorrectInstanceState", self.change, instance, "t3.micro")

    def test_an_unknown_type_and_one_of_another_architecture_are_refused(self) -> None:
        instance = self.stopped()
        self.refused("InvalidInstanceAttributeValue", self.change, instance, "t3.gigantic")
        self.refused("InvalidInstanceAttributeValue", self.change, instance, "t4g.small")
        self.assertEqual(self.described(instance)["InstanceType"], "t3.micro")


class Disk(CloudTest):
    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self.cloud.supervisor, "POST", "knobs", {"volume_rest_s": 6 * 3600})

    def disk(self) -> str:
        return self.described(self.launched())["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]

    def grow(self, volume: str, size: int) -> None:
        self.ec2.modify_volume(VolumeId=volume, Size=size)

    def size(self, volume: str) -> int:
        return self.ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["Size"]

    def modification(self, volume: str) -> str:
        found = self.ec2.describe_volumes_modifications(VolumeIds=[volume])["VolumesModifications"]
        return found[-1]["ModificationState"]

    def until(self, volume: str, state: str) -> None:
        deadline = time.monotonic() + 10
        while self.modification(volume) != state:
            self.assertLess(time.monotonic(), deadline, f"still {self.modification(volume)}")
            time.sleep(0.1)

    def test_a_disk_grows_in_place_through_its_states_and_never_shrinks(self) -> None:
        volume = self.disk()
        self.refused("InvalidParameterValue", self.grow, volume, 4)
        self.grow(volume, 20)
        self.assertEqual(self.modification(volume), "modifying")
        self.refused("IncorrectModificationState", self.grow, volume, 30)
        self.until(volume, "optimizing")
        self.assertEqual(self.size(volume), 20)
        self.refused("IncorrectModificationState", self.grow, volume, 30)
        self.until(volume, "completed")

    def test_a_second_change_waits_for_hours(self) -> None:
        volume = self.disk()
        self.grow(volume, 20)
        self.until(volume, "completed")
        self.refused("VolumeModificationRateExceeded", self.grow, volume, 30)
        self.cloud.supervisor("POST", "knobs", {"volume_rest_s": 0})
        self.grow(volume, 30)
        self.until(volume, "completed")
        self.assertEqual(self.size(volume), 30)
