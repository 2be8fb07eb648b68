"""The families that come with edgeflock. Nothing is imported here, so a robot without torch reads it too."""

from __future__ import annotations

from edgeflock.runtime.tasks.family import Family

STEERING = Family(
    task="edgeflock.runtime.tasks.steering:SteeringPolicy",
    nets="edgeflock.export.nets:STEERING_NETS",
    verbs={
        "edgeflock export": {"steering": "edgeflock.export.cli:steering [export]"},
        "edgeflock train": {"steering": "edgeflock.export.training.cli:steering [export]"},
        "edgeflock bench": {"prepare": "edgeflock.runtime.bench.prepare:prepare"},
    },
    learner="edgeflock.export.fleet.learners.steering:SteeringTask [export]",
)

EMOTION = Family(
    task="edgeflock.runtime.tasks.emotion:EmotionRecognizer",
    nets="edgeflock.export.nets:EMOTION_NETS",
    verbs={
        "edgeflock": {"emotion": "edgeflock.runtime.commands.emotion:emotion"},
        "edgeflock export": {"emotion": "edgeflock.export.cli:emotion [export]"},
        "edgeflock train": {
            "emotion": "edgeflock.export.training.cli:emotion [export]",
            "ldlva": "edgeflock.export.training.cli:ldlva [export]",
            "ldlva-digits": "edgeflock.export.training.cli:ldlva_digits [export]",
            "glamor": "edgeflock.export.training.glamor_verbs:glamor [export]",
            "glamor-scene": "edgeflock.export.training.glamor_verbs:glamor_scene [export]",
        },
        "edgeflock bench": {
            "emotion": "edgeflock.export.bench.emotion:emotion_bars [export]",
            "faces": "edgeflock.export.bench.faces:face_bars [export]",
        },
    },
    learner="edgeflock.export.fleet.learners.emotion:EmotionTask [export]",
)

REGISTRATION = Family(
    task="edgeflock.runtime.tasks.registration:Registration",
    nets="edgeflock.export.nets:REGISTRATION_NETS",
    verbs={
        "edgeflock": {
            "register": "edgeflock.runtime.commands.register:register [registration]",
            "phantoms": "edgeflock.export.datasets.synthetic.phantoms:phantoms [registration]",
        },
        "edgeflock export": {"registration": "edgeflock.export.cli:registration [export]"},
        "edgeflock train": {
            "registration": "edgeflock.export.training.cli:registration [export]",
            "distil": "edgeflock.export.training.distil_verbs:distil [export]",
            "distil-table": "edgeflock.export.training.distil_verbs:distil_table [export]",
        },
        "edgeflock bench": {
            "registration": "edgeflock.export.bench.registration:ldr_bars [export]",
            "syn": "edgeflock.export.bench.syn:syn_bars [export]",
        },
    },
)

CHOREOGRAPHY = Family(
    task="edgeflock.runtime.tasks.choreography:Choreographer",
    nets="edgeflock.export.nets:CHOREOGRAPHY_NETS",
    verbs={
        "edgeflock": {"dances": "edgeflock.export.datasets.synthetic.dances.verb:dances [dance]"},
        "edgeflock export": {"choreography": "edgeflock.export.dance.bundle_verb:choreography [export]"},
        "edgeflock train": {
            "gcd": "edgeflock.export.training.dance_verbs:gcd [export]",
            "gdancer": "edgeflock.export.training.dance_verbs:gdancer [export]",
        },
    },
)

GENERIC = Family(
    task="edgeflock.runtime.tasks.generic:GenericTask",
    verbs={"edgeflock export": {"net": "edgeflock.export.foreign.cli:net [export]"}},
)
