//! Freshet's SQL dialect for sqlparser: PostgreSQL's, with temporal clauses, and with a limit on the parser's work.
//!
//! Boundary: tells sqlparser how to read tokens and expressions; which statements exist is [`super::parser`]'s
//! business. `dialect()` answers with PostgreSqlDialect's type, so the many places where sqlparser asks for the
//! dialect by type behave as for PostgreSQL. Every method of the trait is forwarded, since the defaults of the
//! trait are not PostgreSQL's; a test compares the wrapper with its base over all of them.
//!
//! sqlparser 0.62 backtracks: nested calls with a mistake inside cost it time exponential in the depth. The
//! parser asks its dialect before each operand and operator, so that is where the work is counted: when the fuel
//! is spent, or the stack nearly so, the answer is "recursion limit exceeded", which no alternative catches.

use std::any::TypeId;
use std::cell::Cell;
use std::iter::Peekable;
use std::str::Chars;

use sqlparser::ast::{ColumnOption, Expr, GranteesType, Ident, ObjectNamePart, Statement};
use sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

/// The stack that must be left for the parser to take one more step down. One level of expression costs an
/// unoptimised sqlparser some tens of kilobytes.
const RESERVED_STACK: usize = 192 * 1024;

/// The dialect; one per statement, as it holds the statement's remaining fuel.
#[derive(Debug)]
pub struct FreshetDialect {
    base: PostgreSqlDialect,
    fuel: Cell<u64>,
    exhausted: Cell<bool>,
}

impl FreshetDialect {
    /// A dialect whose parser may take so many steps.
    pub fn with_fuel(fuel: u64) -> Self {
        FreshetDialect { base: PostgreSqlDialect {}, fuel: Cell::new(fuel), exhausted: Cell::new(false) }
    }

    /// Whether a parser was stopped because it took too many steps or too much stack.
    pub fn exhausted(&self) -> bool {
        self.exhausted.get()
    }

    /// Accounts for one step; false when there must be no further one.
    fn step(&self) -> bool {
        let fuel = self.fuel.get();
        if fuel == 0 || stacker::remaining_stack().is_some_and(|left| left < RESERVED_STACK) {
            self.exhausted.set(true);
            return false;
        }
        self.fuel.set(fuel - 1);
        true
    }
}

/// Whether the word just read begins an EMIT clause; it must then not be taken for an alias.
fn begins_emit(parser: &Parser) -> bool {
    let is = |token: &Token, words: &[&str]| match token {
        Token::Word(w) => w.quote_style.is_none() && words.iter().any(|x| w.value.eq_ignore_ascii_case(x)),
        _ => false,
    };
    is(&parser.get_current_token().token, &["emit"])
        && is(&parser.peek_token_ref().token, &["on", "changes", "final"])
}

macro_rules! forward {
    ($($name:ident)*) => { $(fn $name(&self) -> bool { self.base.$name() })* };
}

impl Dialect for FreshetDialect {
    fn dialect(&self) -> TypeId {
        self.base.dialect()
    }

    // Temporal joins and MATCH_RECOGNIZE are read, so that the audit can refuse them by name.
    fn supports_match_recognize(&self) -> bool {
        true
    }
    fn supports_table_versioning(&self) -> bool {
        true
    }
    // The parser would read every function argument twice, at each level of nesting. What is lost is
    // `json_object('key': value)`; named arguments with `=>` and `:=` stay.
    fn supports_named_fn_args_with_expr_name(&self) -> bool {
        false
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        if !self.step() {
            return Some(Err(ParserError::RecursionLimitExceeded));
        }
        self.base.parse_prefix(parser)
    }

    // This one, and not `get_next_precedence`: the base's default would ask the base, not this dialect.
    fn get_next_precedence_default(&self, parser: &Parser) -> Result<u8, ParserError> {
        if !self.step() {
            return Err(ParserError::RecursionLimitExceeded);
        }
        // `e NOT NULL` is no expression in PostgreSQL, and would eat the constraint after `DEFAULT e`.
        if matches!(&parser.peek_token_ref().token, Token::Word(w) if w.keyword == Keyword::NOT)
            && matches!(&parser.peek_nth_token_ref(1).token, Token::Word(w) if w.keyword == Keyword::NULL)
        {
            return Ok(self.base.prec_unknown());
        }
        self.base.get_next_precedence_default(parser)
    }
    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        self.base.get_next_precedence(parser)
    }

    fn is_column_alias(&self, kw: &Keyword, parser: &mut Parser) -> bool {
        self.base.is_column_alias(kw, parser)
    }
    fn is_select_item_alias(&self, explicit: bool, kw: &Keyword, parser: &mut Parser) -> bool {
        self.step();
        (explicit || !begins_emit(parser)) && self.base.is_select_item_alias(explicit, kw, parser)
    }
    fn is_table_factor(&self, kw: &Keyword, parser: &mut Parser) -> bool {
        self.base.is_table_factor(kw, parser)
    }
    fn is_table_alias(&self, kw: &Keyword, parser: &mut Parser) -> bool {
        self.base.is_table_alias(kw, parser)
    }
    fn is_table_factor_alias(&self, explicit: bool, kw: &Keyword, parser: &mut Parser) -> bool {
        self.step();
        (explicit || !begins_emit(parser)) && self.base.is_table_factor_alias(explicit, kw, parser)
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        self.base.is_delimited_identifier_start(ch)
    }
    fn is_nested_delimited_identifier_start(&self, ch: char) -> bool {
        self.base.is_nested_delimited_identifier_start(ch)
    }
    fn peek_nested_delimited_identifier_quotes(
        &self,
        chars: Peekable<Chars<'_>>,
    ) -> Option<(char, Option<char>)> {
        self.base.peek_nested_delimited_identifier_quotes(chars)
    }
    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        self.base.identifier_quote_style(identifier)
    }
    fn is_identifier_start(&self, ch: char) -> bool {
        self.base.is_identifier_start(ch)
    }
    fn is_identifier_part(&self, ch: char) -> bool {
        self.base.is_identifier_part(ch)
    }
    fn is_custom_operator_part(&self, ch: char) -> bool {
        self.base.is_custom_operator_part(ch)
    }
    fn parse_infix(
        &self,
        parser: &mut Parser,
        expr: &Expr,
        precedence: u8,
    ) -> Option<Result<Expr, ParserError>> {
        self.base.parse_infix(parser, expr, precedence)
    }
    fn parse_statement(&self, parser: &mut Parser) -> Option<Result<Statement, ParserError>> {
        self.base.parse_statement(parser)
    }
    fn parse_column_option(
        &self,
        parser: &mut Parser,
    ) -> Result<Option<Result<Option<ColumnOption>, ParserError>>, ParserError> {
        self.base.parse_column_option(parser)
    }
    fn prec_value(&self, prec: Precedence) -> u8 {
        self.base.prec_value(prec)
    }
    fn prec_unknown(&self) -> u8 {
        self.base.prec_unknown()
    }
    fn is_reserved_for_identifier(&self, kw: Keyword) -> bool {
        self.base.is_reserved_for_identifier(kw)
    }
    fn get_reserved_keywords_for_select_item_operator(&self) -> &[Keyword] {
        self.base.get_reserved_keywords_for_select_item_operator()
    }
    fn get_reserved_grantees_types(&self) -> &[GranteesType] {
        self.base.get_reserved_grantees_types()
    }
    fn is_identifier_generating_function_name(&self, ident: &Ident, name_parts: &[ObjectNamePart]) -> bool {
        self.base.is_identifier_generating_function_name(ident, name_parts)
    }

    forward! {
        supports_string_literal_backslash_escape
        ignores_wildcard_escapes
        supports_unicode_string_literal
        supports_filter_during_aggregation
        supports_window_clause_named_window_reference
        supports_within_after_array_aggregation
        supports_partition_by_after_order_by
        supports_array_join_syntax
        supports_group_by_expr
        supports_group_by_with_modifier
        supports_left_associative_joins_without_parens
        supports_outer_join_operator
        supports_cross_join_constraint
        supports_connect_by
        supports_execute_immediate
        supports_in_empty_list
        supports_start_transaction_modifier
        supports_end_transaction_modifier
        supports_named_fn_args_with_eq_operator
        supports_named_fn_args_with_colon_operator
        supports_named_fn_args_with_assignment_operator
        supports_named_fn_args_with_rarrow_operator
        supports_numeric_prefix
        supports_numeric_literal_underscores
        supports_window_function_null_treatment_arg
        supports_dictionary_syntax
        support_map_literal_syntax
        supports_lambda_functions
        supports_parenthesized_set_variables
        supports_comma_separated_set_assignments
        supports_update_order_by
        supports_select_wildcard_except
        convert_type_before_value
        supports_triple_quoted_string
        supports_trailing_commas
        supports_limit_comma
        supports_string_literal_concatenation
        supports_string_literal_concatenation_with_newline
        supports_projection_trailing_commas
        supports_from_trailing_commas
        supports_column_definition_trailing_commas
        supports_object_name_double_dot_notation
        supports_struct_literal
        supports_empty_projections
        supports_select_expr_star
        supports_from_first_select
        supports_from_first_insert
        supports_pipe_operator
        supports_user_host_grantee
        supports_match_against
        supports_select_wildcard_exclude
        supports_select_exclude
        supports_create_table_multi_schema_info_sources
        supports_select_modifiers
        describe_requires_table_keyword
        allow_extract_custom
        allow_extract_single_quotes
        supports_extract_comma_syntax
        supports_subquery_as_function_arg
        supports_create_view_comment_syntax
        supports_array_typedef_without_element_type
        supports_parens_around_table_factor
        supports_values_as_table_factor
        supports_dollar_placeholder
        supports_dollar_as_money_prefix
        supports_create_index_with_clause
        require_interval_qualifier
        supports_explain_with_utility_options
        supports_asc_desc_in_column_definition
        supports_factorial_operator
        supports_bitwise_shift_operators
        supports_nested_comments
        supports_multiline_comment_hints
        supports_eq_alias_assignment
        supports_try_convert
        supports_bang_not_operator
        supports_listen_notify
        supports_load_data
        supports_load_extension
        supports_top_before_distinct
        supports_boolean_literals
        supports_show_like_before_in
        supports_comment_on
        supports_create_table_select
        supports_partiql
        supports_constraint_keyword_without_name
        supports_key_column_option
        supports_table_sample_before_alias
        supports_insert_set
        supports_insert_table_function
        supports_insert_table_query
        supports_insert_format
        supports_insert_table_alias
        supports_set_stmt_without_operator
        supports_string_escape_constant
        supports_table_hints
        requires_single_line_comment_whitespace
        supports_array_typedef_with_brackets
        supports_geometric_types
        supports_order_by_all
        supports_set_names
        supports_space_separated_column_options
        supports_alter_column_type_using
        supports_comma_separated_drop_column_list
        supports_notnull_operator
        supports_data_type_signed_suffix
        supports_interval_options
        supports_create_table_like_parenthesized
        supports_semantic_view_table_factor
        supports_quote_delimited_string
        supports_comment_optimizer_hint
        supports_double_ampersand_operator
        supports_binary_kw_as_cast
        supports_select_wildcard_replace
        supports_select_wildcard_ilike
        supports_select_wildcard_rename
        supports_select_wildcard_with_alias
        supports_optimize_table
        supports_install
        supports_detach
        supports_prewhere
        supports_with_fill
        supports_limit_by
        supports_interpolate
        supports_settings
        supports_select_format
        supports_comma_separated_trim
        supports_cte_without_as
        supports_select_item_multi_column_alias
        supports_xml_expressions
        supports_create_table_using
        supports_long_type_as_bigint
        supports_map_literal_with_angle_brackets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the wrapper means to change.
    const CHANGED: [&str; 3] =
        ["supports_match_recognize", "supports_table_versioning", "supports_named_fn_args_with_expr_name"];

    #[test]
    fn every_flag_but_the_chosen_ones_is_that_of_postgresql() {
        let (ours, base) = (FreshetDialect::with_fuel(1), PostgreSqlDialect {});
        macro_rules! compare {
            ($($name:ident)*) => { $(
                let expected = base.$name() != CHANGED.contains(&stringify!($name));
                assert_eq!(ours.$name(), expected, stringify!($name));
            )* };
        }
        compare! {
            supports_string_literal_backslash_escape
            ignores_wildcard_escapes
            supports_unicode_string_literal
            supports_filter_during_aggregation
            supports_window_clause_named_window_reference
            supports_within_after_array_aggregation
            supports_partition_by_after_order_by
            supports_array_join_syntax
            supports_group_by_expr
            supports_group_by_with_modifier
            supports_left_associative_joins_without_parens
            supports_outer_join_operator
            supports_cross_join_constraint
            supports_connect_by
            supports_execute_immediate
            supports_match_recognize
            supports_in_empty_list
            supports_start_transaction_modifier
            supports_end_transaction_modifier
            supports_named_fn_args_with_eq_operator
            supports_named_fn_args_with_colon_operator
            supports_named_fn_args_with_assignment_operator
            supports_named_fn_args_with_rarrow_operator
            supports_named_fn_args_with_expr_name
            supports_numeric_prefix
            supports_numeric_literal_underscores
            supports_window_function_null_treatment_arg
            supports_dictionary_syntax
            support_map_literal_syntax
            supports_lambda_functions
            supports_parenthesized_set_variables
            supports_comma_separated_set_assignments
            supports_update_order_by
            supports_select_wildcard_except
            convert_type_before_value
            supports_triple_quoted_string
            supports_trailing_commas
            supports_limit_comma
            supports_string_literal_concatenation
            supports_string_literal_concatenation_with_newline
            supports_projection_trailing_commas
            supports_from_trailing_commas
            supports_column_definition_trailing_commas
            supports_object_name_double_dot_notation
            supports_struct_literal
            supports_empty_projections
            supports_select_expr_star
            supports_from_first_select
            supports_from_first_insert
            supports_pipe_operator
            supports_user_host_grantee
            supports_match_against
            supports_select_wildcard_exclude
            supports_select_exclude
            supports_create_table_multi_schema_info_sources
            supports_select_modifiers
            describe_requires_table_keyword
            allow_extract_custom
            allow_extract_single_quotes
            supports_extract_comma_syntax
            supports_subquery_as_function_arg
            supports_create_view_comment_syntax
            supports_array_typedef_without_element_type
            supports_parens_around_table_factor
            supports_values_as_table_factor
            supports_dollar_placeholder
            supports_dollar_as_money_prefix
            supports_create_index_with_clause
            require_interval_qualifier
            supports_explain_with_utility_options
            supports_asc_desc_in_column_definition
            supports_factorial_operator
            supports_bitwise_shift_operators
            supports_nested_comments
            supports_multiline_comment_hints
            supports_eq_alias_assignment
            supports_try_convert
            supports_bang_not_operator
            supports_listen_notify
            supports_load_data
            supports_load_extension
            supports_top_before_distinct
            supports_boolean_literals
            supports_show_like_before_in
            supports_comment_on
            supports_create_table_select
            supports_partiql
            supports_constraint_keyword_without_name
            supports_key_column_option
            supports_table_sample_before_alias
            supports_insert_set
            supports_insert_table_function
            supports_insert_table_query
            supports_insert_format
            supports_insert_table_alias
            supports_set_stmt_without_operator
            supports_table_versioning
            supports_string_escape_constant
            supports_table_hints
            requires_single_line_comment_whitespace
            supports_array_typedef_with_brackets
            supports_geometric_types
            supports_order_by_all
            supports_set_names
            supports_space_separated_column_options
            supports_alter_column_type_using
            supports_comma_separated_drop_column_list
            supports_notnull_operator
            supports_data_type_signed_suffix
            supports_interval_options
            supports_create_table_like_parenthesized
            supports_semantic_view_table_factor
            supports_quote_delimited_string
            supports_comment_optimizer_hint
            supports_double_ampersand_operator
            supports_binary_kw_as_cast
            supports_select_wildcard_replace
            supports_select_wildcard_ilike
            supports_select_wildcard_rename
            supports_select_wildcard_with_alias
            supports_optimize_table
            supports_install
            supports_detach
            supports_prewhere
            supports_with_fill
            supports_limit_by
            supports_interpolate
            supports_settings
            supports_select_format
            supports_comma_separated_trim
            supports_cte_without_as
            supports_select_item_multi_column_alias
            supports_xml_expressions
            supports_create_table_using
            supports_long_type_as_bigint
            supports_map_literal_with_angle_brackets
        }
    }

    #[test]
    fn characters_keywords_and_precedences_are_those_of_postgresql() {
        let (ours, base) = (FreshetDialect::with_fuel(1), PostgreSqlDialect {});
        assert_eq!(ours.dialect(), TypeId::of::<PostgreSqlDialect>());
        for c in (0..0x250u32).filter_map(char::from_u32) {
            assert_eq!(ours.is_identifier_start(c), base.is_identifier_start(c));
            assert_eq!(ours.is_identifier_part(c), base.is_identifier_part(c));
            assert_eq!(ours.is_delimited_identifier_start(c), base.is_delimited_identifier_start(c));
            assert_eq!(
                ours.is_nested_delimited_identifier_start(c),
                base.is_nested_delimited_identifier_start(c)
            );
            assert_eq!(ours.is_custom_operator_part(c), base.is_custom_operator_part(c));
        }
        for keyword in sqlparser::keywords::ALL_KEYWORDS_INDEX {
            assert_eq!(ours.is_reserved_for_identifier(*keyword), base.is_reserved_for_identifier(*keyword));
        }
        for prec in [Precedence::Period, Precedence::AtTz, Precedence::Caret, Precedence::And, Precedence::Or]
        {
            assert_eq!(ours.prec_value(prec), base.prec_value(prec));
        }
        assert_eq!(ours.identifier_quote_style("x"), base.identifier_quote_style("x"));
        assert_eq!(ours.prec_unknown(), base.prec_unknown());
    }
}
