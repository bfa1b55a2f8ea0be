"""Images and the parameters that name them, instance types and key pairs."""

from harness import PUBLIC_KEY, CloudTest


class ImagesAndTypes(CloudTest):
    def test_debian_images_are_named_by_public_parameters(self) -> None:
        for release in ("12", "13"):
            for name, architecture in (("amd64", "x86_64"), ("arm64", "arm64")):
                parameter = self.ssm.get_parameter(Name=f"/aws/service/debian/release/{release}/latest/{name}")
                image_id = parameter["Parameter"]["Value"]
                image = self.ec2.describe_images(ImageIds=[image_id])["Images"][0]
                self.assertEqual((image["OwnerId"], image["Architecture"]), ("136693071363", architecture))
                self.assertEqual((image["RootDeviceName"], image["State"]), ("/dev/xvda", "available"))
                self.assertTrue(image["Name"].startswith(f"debian-{release}-{name}-"))

    def test_images_are_found_by_owner_and_name(self) -> None:
        filters = [
            {"Name": "name", "Values": ["debian-13-amd64-*"]},
            {"Name": "root-device-type", "Values": ["ebs"]},
            {"Name": "architecture", "Values": ["x86_64"]},
        ]
        found = self.ec2.describe_images(Owners=["136693071363"], Filters=filters)["Images"]
        self.assertEqual([image["ImageId"] for image in found], [self.image()])
        absent = ["ami-0123456789abcdef0"]
        self.refused("InvalidAMIID.NotFound", self.ec2.describe_images, ImageIds=absent)

    def test_instance_types_are_described(self) -> None:
        found = self.ec2.describe_instance_types(InstanceTypes=["t3.micro"])["InstanceTypes"][0]
        self.assertEqual(found["MemoryInfo"]["SizeInMiB"], 1024)
        self.refused("InvalidInstanceType", self.ec2.describe_instance_types, InstanceTypes=["t3.gigantic"])
        offered = self.ec2.describe_instance_type_offerings(
            LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": ["t3.micro"]}]
        )["InstanceTypeOfferings"]
        self.assertIn("us-east-1a", [offer["Location"] for offer in offered])

    def test_key_pairs_are_unique_tagged_and_deleted_by_id(self) -> None:
        tags = [{"ResourceType": "key-pair", "Tags": [{"Key": "infra:name", "Value": self.name}]}]
        wanted = {"KeyName": self.name, "PublicKeyMaterial": PUBLIC_KEY.encode()}
        self.ec2.import_key_pair(**wanted, TagSpecifications=tags)
        self.refused("InvalidKeyPair.Duplicate", self.ec2.import_key_pair, **wanted)
        by_tag = [{"Name": "tag:infra:name", "Values": [self.name]}]
        found = self.ec2.describe_key_pairs(Filters=by_tag, IncludePublicKey=True)["KeyPairs"]
        self.assertEqual([pair["PublicKey"] for pair in found], [PUBLIC_KEY])
        self.ec2.delete_key_pair(KeyPairId=found[0]["KeyPairId"])
        self.assertEqual(self.ec2.describe_key_pairs(Filters=by_tag)["KeyPairs"], [])
        self.refused("InvalidKeyPair.NotFound", self.ec2.describe_key_pairs, KeyNames=[self.name])
