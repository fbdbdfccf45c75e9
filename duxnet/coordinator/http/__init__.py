"""HTTP without a meaning: requests and answers, finding routes, problem answers, the OpenAPI document."""
