"""validate(raw_input, schema): checks a job's input against a schema of Python types."""

import json


def _rules_of(schema, errors):
    """The schema with rules given as JSON text read; those that are no dictionary are reported and left out."""
    rules_of = {}
    for key, rules in schema.items():
        if not isinstance(rules, dict):
            try:
                rules = json.loads(rules)
            except (TypeError, ValueError):
                rules = None
        if isinstance(rules, dict):
            rules_of[key] = rules
        else:
            errors.append(f"Schema error, {key} is not a dictionary.")
    return rules_of


def _check_presence(key, rules, given, validated, errors):
    if "type" not in rules:
        errors.append(f"Schema error, missing type for {key}.")
    if "required" not in rules or (rules["required"] and key not in given):
        errors.append(f"{key} is a required input.")
    elif not rules["required"] and key not in given:
        if "default" in rules:
            validated[key] = rules["default"]
        else:
            errors.append(f"Schema error, missing default value for {key}.")


def _check_type(key, rules, validated, errors):
    wanted = rules.get("type")
    if key not in validated or wanted is None:
        return
    if wanted is float and type(validated[key]) in (int, float):
        validated[key] = float(validated[key])
    if "default" in rules and isinstance(validated[key], type(rules["default"])):
        return
    if not isinstance(validated[key], wanted):
        errors.append(f"{key} should be {wanted} type, not {type(validated[key])}.")


def validate(raw_input, schema):
    """Returns `{"validated_input": {...}}` with defaults filled in, or `{"errors": [text, ...]}`.

    A rule has `type`, `required`, and optionally `default` and `constraints` (a function of the value).
    """
    errors = [f"Unexpected input. {key} is not a valid input option." for key in raw_input if key not in schema]
    validated = dict(raw_input)
    rules_of = _rules_of(schema, errors)
    for key, rules in rules_of.items():
        _check_presence(key, rules, raw_input, validated, errors)
    for key, rules in rules_of.items():
        _check_type(key, rules, validated, errors)
        if "constraints" in rules and not rules["constraints"](validated.get(key)):
            errors.append(f"{key} does not meet the constraints.")
    return {"errors": errors} if errors else {"validated_input": validated}
