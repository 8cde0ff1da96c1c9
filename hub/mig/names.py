"""Labels of NVIDIA's MIG manager, and our own annotation beside them.

Sources: NVIDIA GPU operator, "GPU Operator with MIG"; mig-parted, cmd/nvidia-mig-manager/main.go (it acts when the
value of `nvidia.com/mig.config` changes, and only then) and deployments/gpu-operator/reconfigure-mig.sh (the states,
and in what order).
"""

CONFIG = "nvidia.com/mig.config"
"""Label with the name of the layout that a node shall have."""

STATE = "nvidia.com/mig.config.state"
"""Label by which the manager says how far it is: pending, rebooting, success, failed."""

CAPABLE = "nvidia.com/mig.capable"
STRATEGY = "nvidia.com/mig.strategy"
PRODUCT = "nvidia.com/gpu.product"

RECORD = "armillary/mig-change"
"""Annotation of a node whose layout is being changed: what was begun, and by whom."""

BUSY = ("pending", "rebooting")
