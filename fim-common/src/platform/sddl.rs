//! Who may change an object, by its DACL in SDDL (Microsoft's "Security Descriptor Definition
//! Language").

/// A descriptor in SDDL as its parts: owner (`O:`), group (`G:`), flags of the DACL (`D:PAI`), and
/// each of its entries.
pub(crate) fn sddl_parts(sddl: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut rest = sddl;
    while !rest.is_empty() {
        // An entry ends at its bracket, anything else before the next bracket or letter with a
        // colon.
        let end = match rest.strip_prefix('(') {
            Some(_) => rest.find(')').map_or(rest.len(), |at| at + 1),
            None => {
                let colon = rest.match_indices(':').nth(1).map(|(at, _)| at - 1);
                let bracket = rest.find('(');
                colon.into_iter().chain(bracket).min().unwrap_or(rest.len()).max(1)
            }
        };
        let (part, after) = rest.split_at(end);
        parts.push(part.to_owned());
        rest = after;
    }
    parts
}

/// Rights that change the object, what is in it, or who may do so, in SDDL's words.
#[cfg(any(windows, test))]
const WRITING: [&str; 10] = ["GA", "GW", "FA", "FW", "WD", "WO", "SD", "DC", "LC", "KA"];
/// The same as bits: write and append data, delete child, delete, write DACL and owner, generic
/// write and all.
#[cfg(any(windows, test))]
const WRITING_BITS: u32 = 0x2 | 0x4 | 0x40 | 0x1_0000 | 0x4_0000 | 0x8_0000 | 0x5000_0000;

/// The SIDs (or SDDL's two letters for them) that an entry of the DACL lets write.
#[cfg(any(windows, test))]
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

#[cfg(any(windows, test))]
fn writes(rights: &str) -> bool {
    match rights.strip_prefix("0x") {
        Some(digits) => {
            u32::from_str_radix(digits, 16).map_or(true, |bits| bits & WRITING_BITS != 0)
        }
        None => pairs(rights).any(|right| WRITING.contains(&right)),
    }
}

#[cfg(any(windows, test))]
fn pairs(text: &str) -> impl Iterator<Item = &str> {
    (0..text.len() / 2).filter_map(move |at| text.get(at * 2..at * 2 + 2))
}

/// The system, administrators, TrustedInstaller, and whoever owns or makes the object.
#[cfg(any(windows, test))]
pub(super) fn is_trusted(sid: &str) -> bool {
    const INSTALLER: &str = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464";
    matches!(sid, "SY" | "BA" | "CO" | "OW" | "LA" | "DA" | "S-1-5-18" | "S-1-5-32-544")
        || sid == INSTALLER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_has_sddl_parts() {
        let text = "O:BAG:S-1-5-21-1D:PAI(A;;FA;;;SY)(A;OICI;0x1200a9;;;BU)";
        let want = ["O:BA", "G:S-1-5-21-1", "D:PAI", "(A;;FA;;;SY)", "(A;OICI;0x1200a9;;;BU)"];
        assert_eq!(sddl_parts(text), want);
        assert_eq!(
            sddl_parts("O:SYG:SYD:NO_ACCESS_CONTROL").last().unwrap(),
            "D:NO_ACCESS_CONTROL"
        );
        assert!(sddl_parts("").is_empty());
    }

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
