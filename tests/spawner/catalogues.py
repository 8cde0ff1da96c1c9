"""A small catalogue with one of everything, for the tests of this folder."""

from typing import Any

from profiles.access import Person
from profiles.model import Catalogue

ANN = Person(name="ann", groups=frozenset({"researchers"}))
BEN = Person(name="ben", groups=frozenset({"fpga-users"}))


def contents() -> dict[str, Any]:
    """Return the catalogue as YAML would give it; fresh on each call."""
    return {
        "accelerators": {
            "t4": {
                "title": "T4",
                "kubernetes": {
                    "resource": "nvidia.com/gpu",
                    "node_labels": {"nvidia.com/gpu.product": "Tesla-T4"},
                    "tolerations": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}],
                    "runtime_class": "nvidia",
                },
            },
            "u55c": {
                "title": "Alveo U55c",
                "access": {"groups": ["fpga-users"]},
                "kubernetes": {"resource": "amd.com/u55c"},
            },
        },
        "images": {
            "lab": {"title": "JupyterLab", "reference": "example.org/base:1", "local": {}},
            "torch": {"title": "PyTorch", "reference": "example.org/torch:1"},
        },
        "profiles": {
            "cpu": {
                "title": "CPU",
                "default": True,
                "options": {
                    "image": ["lab", "torch"],
                    "cpu": {"min": 0.5, "max": 8, "default": 1},
                    "memory": ["2Gi", "4Gi"],
                },
            },
            "gpu": {
                "title": "GPU",
                "options": {
                    "image": ["torch", "lab"],
                    "cpu": [2, 4],
                    "memory": {"min": "1Gi", "max": "64Gi", "default": "8Gi"},
                    "accelerator": ["t4", "u55c", "none"],
                    "count": {"min": 1, "max": 2, "default": 1},
                    "choices": {
                        "dataset": {
                            "title": "Data set",
                            "choices": {
                                "small": {"title": "Small", "environment": {"DATASET": "small"}},
                                "large": {"title": "Large", "environment": {"DATASET": "large"}},
                            },
                            "unlisted": {
                                "title": "Another one",
                                "pattern": "[a-z]+[0-9]*",
                                "message": "Lower-case letters, then digits.",
                                "environment": {"DATASET": "own-{value}"},
                            },
                        }
                    },
                },
            },
            "teaching": {"title": "Teaching", "access": {"groups": ["instructors"]}, "options": {"image": "lab"}},
        },
    }


def catalogue(**changes: Any) -> Catalogue:
    """Return the catalogue as a value, with top-level sections replaced."""
    return Catalogue.model_validate(contents() | changes)
