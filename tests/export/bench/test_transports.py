"""The tables of `bench transports`; what they measure runs in tests/export/fleet/lab."""

from edgeflock.export.bench.transports import CodecRow, LargeRow, table


def test_the_table_has_a_line_for_each_codec_and_each_transport_and_loss():
    codecs = [CodecRow("fp32", 1236.2, 330.4), CodecRow("topk", 148.0, 121.0)]
    large = [LargeRow("plain TCP", 0.0, 2, 2, 7.5, 1.0), LargeRow("zenoh", 0.05, 5, 6, 9.0, 1.2)]
    lines = table(codecs, large, 45, 50, 2).splitlines()
    assert "| `fp32` | 1,236 | 330 |" in lines
    assert "| plain TCP | 0 % | 2 of 2 | 7.50 | 1.00 |" in lines
    assert "| zenoh | 5 % | 5 of 6 | 9.00 | 1.20 |" in lines
