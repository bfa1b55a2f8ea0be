"""Makes one AWS call for each line of JSON on standard input, and answers each with a line of JSON.

{"service": "ec2", "call": "run_instances", "arguments": {...}} -> {"result": {...}} or {"error": "code: message"}
"""

import json
import sys

import boto3
from botocore.exceptions import ClientError

clients: dict = {}
for line in sys.stdin:
    request = json.loads(line)
    service = request["service"]
    if service not in clients:
        clients[service] = boto3.client(service)
    try:
        result = getattr(clients[service], request["call"])(**request["arguments"])
        result.pop("ResponseMetadata", None)
        answer = {"result": result}
    except ClientError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer, default=str), flush=True)
