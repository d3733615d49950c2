//! Who may change an object, by its DACL in SDDL (Microsoft's "Security Descriptor Definition
//! Language").

/// Rights that change the object, what is in it, or who may do so, in SDDL's words.
const WRITING: [&str; 10] = ["GA", "GW", "FA", "FW", "WD", "WO", "SD", "DC", "LC", "KA"];
/// The same as bits: write and append data, delete child, delete, write DACL and owner, generic
/// write and all.
const WRITING_BITS: u32 = 0x2 | 0x4 | 0x40 | 0x1_0000 | 0x4_0000 | 0x8_0000 | 0x5000_0000;

/// The SIDs (or SDDL's two letters for them) that an entry of the DACL lets write.
pub(super) fn writers(sddl: &str) -> Vec<String> {
    // No DACL at all, or a null one: everybody may do everything.
    let Some((_, dacl)) = sddl.split_once("D:") else { return vec!["WD".into()] };
    let dacl = dacl.split("S:").next().unwrap_or_default();
    if dacl.starts_with("NO_ACCESS_CONTROL") {
        return vec!["WD".into()];
    }
    dacl.split('(')
        .skip(1)
        .filter_map(|entry| {
            let mut fields = entry.split(')').next()?.split(';');
            let (kind, flags, rights) = (fields.next()?, fields.next()?, fields.next()?);
            let sid = fields.nth(2)?;
            // `IO`: for what is inherited only.
            let counts =
                matches!(kind, "A" | "XA" | "OA") && !pairs(flags).any(|flag| flag == "IO");
            (counts && writes(rights)).then(|| sid.to_owned())
        })
        .collect()
}

fn writes(rights: &str) -> bool {
    match rights.strip_prefix("0x") {
        Some(digits) => {
            u32::from_str_radix(digits, 16).map_or(true, |bits| bits & WRITING_BITS != 0)
        }
        None => pairs(rights).any(|right| WRITING.contains(&right)),
    }
}

fn pairs(text: &str) -> impl Iterator<Item = &str> {
    (0..text.len() / 2).filter_map(move |at| text.get(at * 2..at * 2 + 2))
}

/// The system, administrators, TrustedInstaller, and whoever owns or makes the object.
pub(super) fn is_trusted(sid: &str) -> bool {
    const INSTALLER: &str = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464";
    matches!(sid, "SY" | "BA" | "CO" | "OW" | "LA" | "DA" | "S-1-5-18" | "S-1-5-32-544")
        || sid == INSTALLER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_write() {
        for (sddl, want) in [
            ("O:BAG:SYD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)", vec!["SY", "BA"]),
            ("O:BAG:SYD:AI(A;ID;FR;;;WD)(A;ID;0x1200a9;;;BU)", vec![]),
            ("O:BAD:(A;;0x1301bf;;;AU)S:(AU;;FA;;;WD)", vec!["AU"]),
            ("O:BAD:(D;;FA;;;WD)(A;CIIO;GA;;;BU)", vec![]),
            ("O:BAD:NO_ACCESS_CONTROL", vec!["WD"]),
            ("O:BA", vec!["WD"]),
            ("D:(A;;CCDCLCSWRPWPLORC;;;S-1-5-21-1-2-3-1000)", vec!["S-1-5-21-1-2-3-1000"]),
        ] {
            assert_eq!(writers(sddl), want, "{sddl}");
        }
        assert!(is_trusted("SY") && !is_trusted("WD") && !is_trusted("S-1-5-21-1-2-3-1000"));
    }
}
