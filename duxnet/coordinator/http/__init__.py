"""HTTP in general: requests and answers, routing, problem answers, the OpenAPI document."""
