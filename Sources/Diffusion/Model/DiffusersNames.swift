import Checkpoint

/// How diffusers names what LDM names otherwise: one table per network, made from its geometry.
///
/// Source: the block order of LDM `openaimodel.py` and `model.py` beside diffusers' `UNet2DConditionModel` and
/// `AutoencoderKL`. The inside of transformer blocks is named alike in both. Proved by `Tests/Fixtures/families`.
enum DiffusersNames {
    private static let unetResidual = [
        KeyRenaming.Entry("in_layers.0.", "norm1."), .init("in_layers.2.", "conv1."),
        .init("emb_layers.1.", "time_emb_proj."), .init("out_layers.0.", "norm2."), .init("out_layers.3.", "conv2."),
        .init("skip_connection.", "conv_shortcut."),
    ]

    private static func residual(_ ldm: String, _ diffusers: String) -> [KeyRenaming.Entry] {
        unetResidual.map { .init(ldm + "." + $0.model, diffusers + "." + $0.file) }
    }

    /// LDM's names without `model.diffusion_model.` to those of `unet/`.
    static func unet(_ configuration: UNetConfiguration) -> [KeyRenaming.Entry] {
        var table: [KeyRenaming.Entry] = [
            .init("time_embed.0.", "time_embedding.linear_1."), .init("time_embed.2.", "time_embedding.linear_2."),
            .init("input_blocks.0.0.", "conv_in."), .init("out.0.", "conv_norm_out."), .init("out.2.", "conv_out."),
            .init("middle_block.1.", "mid_block.attentions.0."),
        ]
        table += residual("middle_block.0", "mid_block.resnets.0")
        table += residual("middle_block.2", "mid_block.resnets.1")
        let levels = configuration.channelMultipliers.count
        var block = 1
        for level in 0..<levels {
            for index in 0..<configuration.residualBlocks {
                table += residual("input_blocks.\(block).0", "down_blocks.\(level).resnets.\(index)")
                table.append(.init("input_blocks.\(block).1.", "down_blocks.\(level).attentions.\(index)."))
                block += 1
            }
            if level + 1 < levels {
                table.append(.init("input_blocks.\(block).0.op.", "down_blocks.\(level).downsamplers.0.conv."))
                block += 1
            }
        }
        block = 0
        for level in 0..<levels {
            // LDM puts the upsampling behind whatever the stage has: a residual block, or that and a transformer.
            let hasAttention = configuration.attentionLevels.contains(levels - 1 - level)
            for index in 0...configuration.residualBlocks {
                let up = "up_blocks.\(level)"
                table += residual("output_blocks.\(block).0", "\(up).resnets.\(index)")
                if hasAttention {
                    table.append(.init("output_blocks.\(block).1.", "\(up).attentions.\(index)."))
                }
                if index == configuration.residualBlocks, level + 1 < levels {
                    let position = hasAttention ? 2 : 1
                    table.append(.init("output_blocks.\(block).\(position).conv.", "\(up).upsamplers.0.conv."))
                }
                block += 1
            }
        }
        return table
    }

    /// What the attention of the autoencoder calls its parts: LDM, diffusers since 0.15, diffusers before.
    private static let autoencoderAttention = [
        ("norm", "group_norm", "group_norm"), ("q", "to_q", "query"), ("k", "to_k", "key"), ("v", "to_v", "value"),
        ("proj_out", "to_out.0", "proj_attn"),
    ]

    /// LDM's names without `first_stage_model.` to those of `vae/`.
    static func autoencoder(_ configuration: AutoencoderConfiguration, isOld: Bool) -> [KeyRenaming.Entry] {
        var table: [KeyRenaming.Entry] = []
        let levels = configuration.channelMultipliers.count
        for half in ["encoder", "decoder"] {
            table.append(.init("\(half).norm_out.", "\(half).conv_norm_out."))
            for (ldm, diffusers) in [("block_1", "resnets.0"), ("block_2", "resnets.1")] {
                table.append(.init("\(half).mid.\(ldm).", "\(half).mid_block.\(diffusers)."))
            }
            for (ldm, new, old) in autoencoderAttention {
                let part = isOld ? old : new
                table.append(.init("\(half).mid.attn_1.\(ldm).", "\(half).mid_block.attentions.0.\(part)."))
            }
        }
        for level in 0..<levels {
            let (down, up) = ("encoder.down_blocks.\(level).", "decoder.up_blocks.\(levels - 1 - level).")
            for index in 0...configuration.residualBlocks {
                let (ldmDown, ldmUp) = ("encoder.down.\(level).block.\(index).", "decoder.up.\(level).block.\(index).")
                table += [
                    .init(ldmDown, "\(down)resnets.\(index)."), .init(ldmUp, "\(up)resnets.\(index)."),
                    .init(ldmDown + "nin_shortcut.", "\(down)resnets.\(index).conv_shortcut."),
                    .init(ldmUp + "nin_shortcut.", "\(up)resnets.\(index).conv_shortcut."),
                ]
            }
            table += [
                .init("encoder.down.\(level).downsample.", "\(down)downsamplers.0."),
                .init("decoder.up.\(level).upsample.", "\(up)upsamplers.0."),
            ]
        }
        return table
    }
}

extension [KeyRenaming.Entry] {
    /// The same table for names with `prefix` before them in the model.
    func under(_ prefix: String) -> [KeyRenaming.Entry] {
        map { KeyRenaming.Entry(prefix + $0.model, $0.file) } + [KeyRenaming.Entry(prefix, "")]
    }
}
