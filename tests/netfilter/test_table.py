"""Tables as values: what iptables-restore is given for a change."""

from minikube_py.netfilter.table import Jump, Rules, Saved, adopted, drifted, parse_save, restore_input

JUMP = Jump("nat", "OUTPUT", "-j KUBE-SERVICES")
ONE = Rules({("nat", "KUBE-SERVICES"): ("-j KUBE-SVC-A",), ("nat", "KUBE-SVC-A"): ("-j ACCEPT",)}, (JUMP,))


def test_equal_states_give_no_input() -> None:
    assert restore_input(ONE, ONE) == ""


def test_only_the_changed_chain_is_rewritten() -> None:
    two = Rules({**ONE.chains, ("nat", "KUBE-SVC-A"): ("-j DROP",)}, ONE.jumps)
    assert restore_input(ONE, two) == "*nat\n:KUBE-SVC-A - [0:0]\n-A KUBE-SVC-A -j DROP\nCOMMIT\n"


def test_a_chain_that_goes_is_emptied_before_it_is_removed() -> None:
    two = Rules({("nat", "KUBE-SERVICES"): ()}, (JUMP,))
    assert restore_input(ONE, two) == "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC-A - [0:0]\n-X KUBE-SVC-A\nCOMMIT\n"


def test_a_long_chain_is_edited_and_a_short_or_reordered_one_is_written_again() -> None:
    chain = ("nat", "KUBE-SERVICES")
    many = tuple(f"-d 10.0.0.{n} -j A" for n in range(20))

    def change(new: tuple[str, ...]) -> str:
        return restore_input(Rules({chain: many}), Rules({chain: new}))

    assert change(("-j X", "-j Y", *many[:3], *many[4:])) == (
        "*nat\n-D KUBE-SERVICES -d 10.0.0.3 -j A\n-I KUBE-SERVICES 1 -j Y\n-I KUBE-SERVICES 1 -j X\nCOMMIT\n"
    )
    assert change(many[1:]) == "*nat\n-D KUBE-SERVICES -d 10.0.0.0 -j A\nCOMMIT\n"
    for again in ((*many, "-j X"), many[::-1], (*many[1:], many[0]), (many[0], *many), many[:8]):
        assert ":KUBE-SERVICES - [0:0]" in change(again)


def test_jumps_keep_their_order_at_the_head_of_the_hook() -> None:
    rules = Rules({}, (Jump("filter", "INPUT", "-j A"), Jump("filter", "INPUT", "-j B")))
    assert restore_input(Rules({}), rules) == "*filter\n-I INPUT 1 -j B\n-I INPUT 1 -j A\nCOMMIT\n"


def test_what_an_earlier_process_left_is_taken_over_and_strays_removed() -> None:
    saved = parse_save(
        "*nat\n:OUTPUT ACCEPT [0:0]\n:KUBE-OLD - [0:0]\n-A OUTPUT -j KUBE-SERVICES\n-A OUTPUT -j KUBE-OLD\n-A OUTPUT -j DOCKER\nCOMMIT\n"
    )
    text = restore_input(adopted(saved, ONE, ("KUBE-",)), ONE)
    assert "-D OUTPUT -j KUBE-OLD" in text
    assert "-X KUBE-OLD" in text
    assert "DOCKER" not in text
    assert "-I OUTPUT" not in text


def test_drift_is_a_missing_chain_a_missing_jump_or_another_number_of_rules() -> None:
    sound = Saved({**ONE.chains, ("nat", "OUTPUT"): (JUMP.rule,)})
    assert not drifted(sound, ONE)
    assert drifted(Saved({**ONE.chains}), ONE)
    assert drifted(Saved({**sound.chains, ("nat", "KUBE-SVC-A"): ()}), ONE)
    assert drifted(Saved({("nat", "OUTPUT"): (JUMP.rule,)}), ONE)
