"""The contract of components of every kind: a signature that is a schema, and documentation."""

from __future__ import annotations

from pydantic import ValidationError

from p2pkit.components.issues import issues_in, report
from p2pkit.components.kinds import SUPPLIED
from p2pkit.components.signature import defined, parameters_model, plain, validate
from p2pkit.testing.checks import Subject, contract, require


@contract("its signature is its schema: every parameter that it cannot do without has a name, and a type that TOML has")
def has_a_schema(subject: Subject) -> None:
    """A model can be made of the signature."""
    parameters_model(subject.registered, subject.kind)


@contract("it can be made with its defaults and the parameters of this test")
def takes_its_parameters(subject: Subject) -> None:
    """Nothing required is missing, and defaults keep to their own types and bounds."""
    model = parameters_model(subject.registered, subject.kind)
    fields = model.model_fields
    own = {name: value for name, value in subject.parameters.items() if name not in SUPPLIED[subject.kind]}
    missing = [name for name, field in fields.items() if field.is_required() and name not in own]
    require(not missing, f"no value for {', '.join(missing)}, which it cannot do without; give one to check_component")
    defaults = {name: plain(field.default) for name, field in fields.items() if not field.is_required()}
    values = {**defaults, **own}
    try:
        validate(model, values)
    except ValidationError as error:
        require(False, report(issues_in(error, model, values, subject.registered.name)))


@contract("it is documented: the docstring of its class or function is what `p2pkit components` shows")
def is_documented(subject: Subject) -> None:
    """It has a docstring of its own, not that of torch.nn.Module or one that dataclasses write."""
    factory = defined(subject.registered.factory)
    text = (factory.__dict__.get("__doc__") if isinstance(factory, type) else factory.__doc__) or ""
    require(text.strip(), f"no docstring on {factory!r}")
    require(not text.startswith(f"{factory.__name__}("), "the docstring that dataclasses write by themselves")


CHECKS = (has_a_schema, takes_its_parameters, is_documented)
