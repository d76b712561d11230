"""The smallest SwinLSTM-B that has everything, for tests of training."""

from forecasting.networks.swinlstm_b import SwinLSTMConfig

TINY = SwinLSTMConfig(
    grid=(4, 4),
    patch=2,
    width=8,
    window=2,
    depths=(2,),
    heads=(2,),
    drop_path=0.0,
    reconstruction="linear",
    output="identity",
)
