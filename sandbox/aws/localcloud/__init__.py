"""The sandbox's AWS: moto's in-memory EC2, S3, IAM, SSM, STS and CloudWatch behind a front of its own.

moto keeps the resources and speaks the protocols. This package adds what a provisioning tool would miss: every request
is authenticated and authorised (`signature`, `principals`, `permissions`, `policy`), instances live through real state
transitions driven by the machines' supervisor (`lifecycle`, `launch`, `world`, `door`), addresses come from the
sandbox's own ranges (`pools`, `network`), and refusals that AWS makes are made (`security_groups`, `s3`, `ssm`).

`front` is where a request enters. Deliberately not here: machines, metadata services and packet filters, which belong
to the supervisor on the other side of `door`; and any state on disk, since a sandbox begins empty.
"""
