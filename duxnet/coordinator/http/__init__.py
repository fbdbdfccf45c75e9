"""HTTP without a meaning: bodies, problem answers, the OpenAPI document."""
