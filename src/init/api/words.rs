//! A command in one string, cut into words by quotes and blanks. There is no shell: nothing else has a meaning.

use std::ffi::OsString;

/// Cuts at blanks, tabs and line ends. Single quotes keep everything; in double quotes a backslash takes away the
/// meaning of `"` and `\` only; elsewhere it takes away the meaning of any character. `""` is an empty word.
pub fn split_words(text: &str) -> Result<Vec<OsString>, String> {
    let mut words = Vec::new();
    // The word so far; none between words.
    let mut word: Option<String> = None;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if is_blank(c) {
            words.extend(word.take().map(OsString::from));
            continue;
        }
        let word = word.get_or_insert_default();
        match c {
            '\'' => single_quoted(&mut rest, word)?,
            '"' => double_quoted(&mut rest, word)?,
            '\\' => word.push(rest.next().ok_or("a backslash at the end")?),
            _ => word.push(c),
        }
    }
    words.extend(word.map(OsString::from));
    Ok(words)
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn single_quoted(rest: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), String> {
    let (quoted, behind) = rest.as_str().split_once('\'').ok_or("a single quote that is not closed")?;
    word.push_str(quoted);
    *rest = behind.chars();
    Ok(())
}

fn double_quoted(rest: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), String> {
    loop {
        match rest.next() {
            None => return Err("a double quote that is not closed".into()),
            Some('"') => return Ok(()),
            Some('\\') => match rest.as_str().chars().next() {
                Some(c @ ('"' | '\\')) => {
                    word.push(c);
                    rest.next();
                }
                _ => word.push('\\'),
            },
            Some(c) => word.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_cut_at_blanks_and_kept_by_quotes() {
        let cases: [(&str, &[&str]); 24] = [
            ("", &[]),
            (" \t\r\n ", &[]),
            ("ls -al", &["ls", "-al"]),
            ("  ls\t-al\n/tmp\r\n", &["ls", "-al", "/tmp"]),
            ("''", &[""]),
            (r#"a "" b"#, &["a", "", "b"]),
            ("a'b c'd", &["ab cd"]),
            (r#"a"b c"d"#, &["ab cd"]),
            (r"'a\b\'", &[r"a\b\"]),
            (r#"'a"b'"#, &[r#"a"b"#]),
            (r#""a'b""#, &["a'b"]),
            (r#""a\"b\\c""#, &[r#"a"b\c"#]),
            (r#""a\nb\ c\$""#, &[r"a\nb\ c\$"]),
            (r"a\ b", &["a b"]),
            (r"a\n\\\'\x", &[r"an\'x"]),
            ("a\\\nb", &["a\nb"]),
            ("'a\nb\t'", &["a\nb\t"]),
            (r"\ ", &[" "]),
            ("a | b > c && d; $E `f` *", &["a", "|", "b", ">", "c", "&&", "d;", "$E", "`f`", "*"]),
            ("# no comment", &["#", "no", "comment"]),
            ("é\u{a0}ü ☃", &["é\u{a0}ü", "☃"]),
            ("a\u{b}b\u{c}c", &["a\u{b}b\u{c}c"]),
            (r#"sh -c 'echo "$A"'"#, &["sh", "-c", r#"echo "$A""#]),
            (r#"''""''"#, &[""]),
        ];
        for (text, words) in cases {
            assert_eq!(split_words(text).unwrap(), words, "{text:?}");
        }
    }

    #[test]
    fn what_is_not_finished_is_refused() {
        for text in ["'", "a 'b", r#"""#, r#"a "b"#, r#""a\""#, r#""\"#, r"\", r"a \", "'a''", r#"'a"b"#] {
            assert!(split_words(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn quoted_words_come_back(words in prop::collection::vec(".*", 0..5)) {
            let double = |word: &String| format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""));
            let single = |word: &String| format!("'{}'", word.replace('\'', r"'\''"));
            let escaped = |word: &String| word.chars().flat_map(|c| ['\\', c]).collect::<String>();
            let cut = |words: Vec<String>, blank| split_words(&words.join(blank)).unwrap();
            let expected: Vec<OsString> = words.iter().map(OsString::from).collect();
            prop_assert_eq!(&cut(words.iter().map(double).collect(), " "), &expected);
            prop_assert_eq!(&cut(words.iter().map(single).collect(), "\t"), &expected);
            let visible: Vec<OsString> = expected.into_iter().filter(|word| !word.is_empty()).collect();
            prop_assert_eq!(cut(words.iter().map(escaped).collect(), "\n"), visible);
        }

        #[test]
        fn any_text_is_cut_or_refused(text: String) {
            let _words = split_words(&text);
        }
    }
}
