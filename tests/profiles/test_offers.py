"""What a person may pick on an engine, and why not where not."""

import pytest

from profiles.access import Person
from profiles.loader import loads
from profiles.model import Engine
from profiles.offers import OptionOffer, ProfileOffer, offers

CATALOGUE = loads("""
accelerators:
  t4: {title: T4, description: An NVIDIA T4, kubernetes: {resource: nvidia.com/gpu}}
  u55c: {title: U55c, kubernetes: {resource: amd.com/fpga}, access: {groups: [fpga-users]}}
  future: {title: Future}
images:
  lab: {title: Lab, reference: registry.example.org/lab:1, local: {}}
  cloud: {title: Cloud, reference: registry.example.org/cloud:1}
  here: {title: Here, local: {command: [jupyterhub-singleuser]}}
  course: {title: Course, reference: a/b, local: {}, access: {groups: [instructors]}}
profiles:
  all:
    title: All
    description: Everything there is
    options:
      image: [cloud, lab, here, course]
      accelerator: [none, t4, u55c, future]
      count: [1, 2]
      cpu: [0.5, 2]
      memory: {min: 1Gi, max: 8Gi, default: 1.5Gi}
  teaching:
    title: Teaching
    access: {groups: [instructors]}
    default: true
  cards: {title: Cards, options: {accelerator: [t4]}}
  cloud: {title: Cloud only, options: {image: cloud}}
  tuned: {title: Tuned, kubespawner_override: {mem_limit: 1G, node_selector: {a: b}}}
""")
ANN = Person("ann", frozenset({"researchers"}))


def offered(person: Person, engine: Engine) -> dict[str, ProfileOffer]:
    return {offer.key: offer for offer in offers(CATALOGUE, person, engine)}


def options(offer: ProfileOffer) -> dict[str, OptionOffer]:
    return {option.key: option for option in offer.options}


def reasons(option: OptionOffer) -> dict[str, str | None]:
    return {offer.key: offer.reason for offer in option.offers}


def test_profiles_keep_their_order_and_texts() -> None:
    made = offers(CATALOGUE, ANN, "kubernetes")
    assert [offer.key for offer in made] == ["all", "teaching", "cards", "cloud", "tuned"]
    assert (made[0].title, made[0].description) == ("All", "Everything there is")


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        (
            "kubernetes",
            {"all": None, "teaching": "needs group instructors", "cards": None, "cloud": None, "tuned": None},
        ),
        (
            "local",
            {
                "all": None,
                "teaching": "needs group instructors",
                "cards": "Accelerator: this machine hands out no T4",
                "cloud": "Image: only on Kubernetes: it is a container image",
                "tuned": "only on Kubernetes: uses node_selector",
            },
        ),
    ],
)
def test_reasons_of_profiles(engine: Engine, expected: dict[str, str | None]) -> None:
    assert {key: offer.reason for key, offer in offered(ANN, engine).items()} == expected


def test_images_by_engine_and_group() -> None:
    container = "only on Kubernetes: it is a container image"
    process = "only where sessions run on one machine: it is no container image"
    on_kubernetes = options(offered(ANN, "kubernetes")["all"])["image"]
    assert reasons(on_kubernetes) == {"cloud": None, "lab": None, "here": process, "course": "needs group instructors"}
    local = options(offered(ANN, "local")["all"])["image"]
    assert reasons(local) == {"cloud": container, "lab": None, "here": None, "course": "needs group instructors"}


def test_the_default_is_the_first_that_may_be_picked_where_the_catalogues_may_not() -> None:
    assert options(offered(ANN, "kubernetes")["all"])["image"].default == "cloud"
    assert options(offered(ANN, "local")["all"])["image"].default == "lab"


def test_the_default_profile_is_one_that_may_be_started() -> None:
    marked = {key for key, offer in offered(ANN, "kubernetes").items() if offer.default}
    assert marked == {"all"}
    instructor = Person("bea", frozenset({"instructors"}))
    assert {key for key, offer in offered(instructor, "kubernetes").items() if offer.default} == {"teaching"}


def test_accelerators_by_engine_and_group() -> None:
    unknown = "this cluster hands it out in no way that the catalogue knows"
    cards = options(offered(ANN, "kubernetes")["all"])["accelerator"]
    assert reasons(cards) == {"none": None, "t4": None, "u55c": "needs group fpga-users", "future": unknown}
    assert (cards.kind, cards.default) == ("named", "none")
    assert cards.offers[1].description == "An NVIDIA T4"
    cards = options(offered(ANN, "local")["all"])["accelerator"]
    assert reasons(cards) == {
        "none": None,
        "t4": "this machine hands out no T4",
        "u55c": "needs group fpga-users",
        "future": "this machine hands out no Future",
    }


def test_one_machine_hands_out_what_is_its_own_or_simulated() -> None:
    catalogue = loads("""
accelerators:
  own: {title: Own, family: Ours, per_node: 3, local: {product: NVIDIA L4}}
  imagined: {title: Imagined, per_node: 2, simulated: {count: 4}, kubernetes: {resource: nvidia.com/gpu}}
  course: {title: Course, simulated: {count: 1}, access: {groups: [instructors]}}
profiles: {p: {title: P, options: {accelerator: [own, imagined, course]}}}
""")
    (local,) = offers(catalogue, ANN, "local")
    cards = local.options[0].offers
    assert [(card.title, card.reason, card.simulated, card.at_most) for card in cards] == [
        ("Own", None, False, 3),
        ("Imagined (simulated)", None, True, 2),
        ("Course (simulated)", "needs group instructors", True, 1),
    ]
    assert [card.family for card in cards] == ["Ours", "", ""]
    (cluster,) = offers(catalogue, ANN, "kubernetes")
    unknown = "this cluster hands it out in no way that the catalogue knows"
    assert [(card.title, card.reason, card.simulated, card.at_most) for card in cluster.options[0].offers] == [
        ("Own", unknown, False, 3),
        ("Imagined", None, False, 2),
        ("Course", "needs group instructors", False, None),
    ]


def test_administrators_may_all_that_the_engine_can() -> None:
    made = offered(Person("root", admin=True), "kubernetes")
    assert all(offer.reason is None for offer in made.values())
    assert reasons(options(made["all"])["accelerator"])["u55c"] is None


def test_numbers_as_quantities_with_titles_for_people() -> None:
    made = options(offered(ANN, "kubernetes")["all"])
    cpu, memory, count = made["cpu"], made["memory"], made["count"]
    assert [(offer.key, offer.title, offer.reason) for offer in cpu.offers] == [("500m", "0.5", None), ("2", "2", None)]
    assert (cpu.kind, cpu.default) == ("number", "500m")
    assert (memory.offers, memory.default, memory.minimum, memory.maximum) == ((), "1536Mi", 2**30, 2**33)
    assert [offer.key for offer in count.offers] == ["1", "2"]


def test_a_profile_in_which_a_choice_is_left_stays_open() -> None:
    catalogue = loads("""
profiles:
  p:
    title: P
    options:
      choices:
        pool:
          title: Pool
          choices:
            a: {title: A, kubespawner_override: {node_selector: {pool: a}}}
            b: {title: B}
            c: {title: C, access: {users: [bob]}}
          unlisted: {title: Own, pattern: '[a-z]+', environment: {POOL: '{value}'}}
""")
    (profile,) = offers(catalogue, ANN, "local")
    (pool,) = profile.options
    assert profile.reason is None
    assert reasons(pool) == {"a": "only on Kubernetes: uses node_selector", "b": None, "c": "for certain users only"}
    assert pool.default == "b"
    assert pool.unlisted is not None
