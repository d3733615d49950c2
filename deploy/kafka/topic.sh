#!/bin/sh
# Makes the topic for the events of fim on 10,000 hosts: see "10,000 hosts: Kafka" in docs/sinks.md for
# the arithmetic.
#
#   topic.sh BROKER:PORT [OPTION OF kafka-topics.sh …]
#
# wants Kafka's kafka-topics.sh in PATH. Against a cluster with TLS or passwords add
# `--command-config FILE`, as with Kafka's own scripts.
set -eu

bootstrap=${1:?usage: topic.sh BROKER:PORT [OPTION …]}
shift

# What the events were sent at is in them. A host whose clock is wrong is refused by a broker unless
# that puts its own time: hence LogAppendTime. The other values are those of the arithmetic.
exec kafka-topics.sh --bootstrap-server "$bootstrap" --create --if-not-exists \
    --topic "${TOPIC:-fim-events}" \
    --partitions "${PARTITIONS:-24}" \
    --replication-factor "${REPLICAS:-3}" \
    --config min.insync.replicas="${MIN_REPLICAS:-2}" \
    --config cleanup.policy=delete \
    --config retention.ms=604800000 \
    --config retention.bytes=21474836480 \
    --config segment.bytes=268435456 \
    --config message.timestamp.type=LogAppendTime \
    --config max.message.bytes=1048588 \
    --config compression.type=producer \
    "$@"
