"""Rows against the IDL: what fits, what is found out at start, and how values are turned."""

import pytest

from virtbackupd.drivers.events import DomainRef, TypedParameter
from virtbackupd.drivers.interface import Answer, Domain, Driver, JobStats
from virtbackupd.protocol import schema
from virtbackupd.server.procedures import PROCEDURES
from virtbackupd.server.translate import (
    TableError,
    compile_encoder,
    compile_handler,
    typed_params,
)

PROCEDURE = schema.load().by_name
DOMAIN = ("test", bytes(16), 1)


@pytest.mark.parametrize("name", PROCEDURES)
def test_every_row_agrees_with_the_interface_text(name: str) -> None:
    compile_handler(PROCEDURE[name], PROCEDURES[name])
    compile_encoder(PROCEDURE[name], PROCEDURES[name])


def test_wrong_number_of_arguments_is_found() -> None:
    with pytest.raises(TableError, match="on the wire"):
        compile_handler(PROCEDURE["DOMAIN_GET_XML_DESC"], Domain.get_autostart)


def test_wrong_type_of_an_argument_is_found() -> None:
    with pytest.raises(TableError, match="cannot stand for remote_nonnull_string"):
        compile_handler(PROCEDURE["DOMAIN_LOOKUP_BY_NAME"], Driver.domain_lookup_by_id)


def test_wrong_result_is_found() -> None:
    with pytest.raises(TableError, match="cannot stand for int"):
        compile_encoder(PROCEDURE["DOMAIN_GET_AUTOSTART"], Domain.get_os_type)


def test_wrong_number_of_results_is_found() -> None:
    with pytest.raises(TableError, match="on the wire"):
        compile_encoder(PROCEDURE["DOMAIN_GET_INFO"], Domain.get_state)


def test_method_of_a_domain_needs_a_domain() -> None:
    with pytest.raises(TableError, match="no domain"):
        compile_handler(PROCEDURE["CONNECT_GET_TYPE"], Domain.get_os_type)


def encoded(name: str, result: Answer[object], *args: object) -> tuple[object, ...]:
    return compile_encoder(PROCEDURE[name], PROCEDURES[name])(result, args)


def test_nothing_becomes_no_fields() -> None:
    assert encoded("DOMAIN_CREATE", None, DOMAIN) == ()


def test_scalar_becomes_the_one_field() -> None:
    assert encoded("DOMAIN_GET_AUTOSTART", 1, DOMAIN) == (1,)


def test_domain_becomes_the_one_field() -> None:
    domain = DomainRef(*DOMAIN)
    assert encoded("DOMAIN_LOOKUP_BY_NAME", domain, "test") == (domain,)


def test_tuple_becomes_the_fields() -> None:
    assert encoded("DOMAIN_GET_STATE", (1, 2), DOMAIN, 0) == (1, 2)


def test_checkpoint_comes_back_with_the_domain_that_was_sent() -> None:
    assert encoded("DOMAIN_CHECKPOINT_CREATE_XML", "one", DOMAIN, "", 0) == (("one", DOMAIN),)


def test_parent_comes_back_with_the_domain_of_its_child() -> None:
    child = ("two", DOMAIN)
    assert encoded("DOMAIN_CHECKPOINT_GET_PARENT", "one", child, 0) == (("one", DOMAIN),)


def test_parameters_become_unions() -> None:
    assert typed_params([TypedParameter("a", 1, 2)]) == [("a", (1, 2))]


def test_parameters_beside_other_fields() -> None:
    stats = JobStats(2, [TypedParameter("a", 1, 2)])
    assert encoded("DOMAIN_GET_JOB_STATS", stats, DOMAIN, 0) == (2, [("a", (1, 2))])


def test_parameters_alone() -> None:
    params = [TypedParameter("a", 1, 2)]
    assert encoded("DOMAIN_GET_GUEST_INFO", params, DOMAIN, 0, 0) == ([("a", (1, 2))],)
