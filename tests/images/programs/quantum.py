"""Run in the image `quantum`: one Bell pair on each simulator; prints what was counted.

The two qubits are measured equal, half of the time 0 and half of the time 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import cirq
import pennylane as qml
from pennylane import numpy as np
from qiskit import QuantumCircuit, transpile
from qiskit_aer import AerSimulator

SHOTS = 2000


def on_aer() -> dict[str, int]:
    """Counts of bit strings."""
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    simulator = AerSimulator(seed_simulator=7)
    return dict(simulator.run(transpile(circuit, simulator), shots=SHOTS).result().get_counts())


def on_pennylane(device: str) -> tuple[dict[str, int], float, float]:
    """Counts of bit strings, and a value and its derivative: cos(x) of a turned qubit, and -sin(x)."""

    @qml.set_shots(SHOTS)
    @qml.qnode(qml.device(device, wires=2, seed=7))
    def bell():
        qml.Hadamard(wires=0)
        qml.CNOT(wires=[0, 1])
        return qml.counts()

    @qml.qnode(qml.device(device, wires=1))
    def turned(x):
        qml.RX(x, wires=0)
        return qml.expval(qml.PauliZ(0))

    x = np.array(0.3, requires_grad=True)
    return {str(bits): int(times) for bits, times in bell().items()}, float(turned(x)), float(qml.grad(turned)(x))


def on_cirq() -> dict[str, int]:
    """Counts of bit strings."""
    first, second = cirq.LineQubit.range(2)
    circuit = cirq.Circuit(cirq.H(first), cirq.CNOT(first, second), cirq.measure(first, second, key="bits"))
    found = cirq.Simulator(seed=7).run(circuit, repetitions=SHOTS).histogram(key="bits")
    return {format(bits, "02b"): times for bits, times in found.items()}


def check(name: str, counts: Mapping[str, int]) -> None:
    """Whether it is a Bell pair; 0.4 to 0.6 is nine standard deviations wide to each side."""
    assert sorted(counts) == ["00", "11"], f"{name}: {counts}"
    assert sum(counts.values()) == SHOTS, f"{name}: {counts}"
    assert 0.4 < counts["00"] / SHOTS < 0.6, f"{name}: {counts}"
    print(name, counts["00"], counts["11"])


check("aer", on_aer())
for device in ("default.qubit", "lightning.qubit"):
    counts, value, slope = on_pennylane(device)
    check(device, counts)
    assert np.isclose(value, np.cos(0.3)), value
    assert np.isclose(slope, -np.sin(0.3)), slope
check("cirq", on_cirq())
print("all counted")
